"""A sample of experiments/robustness: refused commands and damaged runs."""

from __future__ import annotations

import json
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

import netinv_lightning
from experiments.robustness.cases import Case, all_cases
from experiments.robustness.inputs import DAMAGES, damage_runs
from experiments.robustness.run import is_right, refuse
from netinv_lightning.errors import InputError
from netinv_lightning.runs.finished_check import check_finished

FRESH = (
    Case("grammar", ("classifier.path=epoch=3-step=100.ckpt",)),
    Case("environment", ("data=mnist",), {"RANK": "1"}),
    Case("numbers", ("seed=4294967296",)),
)


@pytest.mark.parametrize("case", FRESH, ids=lambda case: case.group)
def test_fresh_process_refuses_and_writes_nothing(case: Case, tmp_path: Path) -> None:
    row = refuse(case, tmp_path)
    assert (row["status"], row["lines"], row["written"]) == (2, 1, ""), row
    assert str(row["line"]).startswith("error: ")


def test_at_least_200_cases_differ() -> None:
    cases = all_cases()
    assert len({case.name for case in cases}) == len(cases) >= 200
    assert min(Counter(case.group for case in cases).values()) >= 7


def test_rows_that_are_not_one_quick_line_are_wrong() -> None:
    right = {
        "status": 2,
        "lines": 1,
        "written": "",
        "seconds": "1.0",
        "line": "error: seed=-1: must be",
    }
    assert is_right(right)
    for wrong in (
        {"status": 1},
        {"lines": 2},
        {"written": "runs"},
        {"seconds": "10.1"},
        {"line": "Traceback"},
    ):
        assert not is_right({**right, **wrong})


def without_files(group: str) -> list[Case]:
    """Return a sample of the cases of a group that need no files."""
    cases = [case for case in all_cases() if case.group == group]
    return [case for case in cases if "{inputs}" not in case.name and not case.environment][::16]


ALWAYS = (
    Case("files and places", ("application=train_classifier", "data=mnist5k")),
    Case("files and places", ("application=measure",)),
    Case("names", ("application=approach",)),
    Case("names", ("application=approach", "application.vector=[1]", "application.units=[1]")),
    Case("names", ("application=detect_ood", "garbage=noise", "+garbage.knn.source=noise")),
    Case("names", ("application=audit", "application.attacks=[kkt,kkt]")),
    Case("names", ("application=benchmark", "application.seeds=[]")),
    Case("names", ("trainer.accelerator=tpu",)),
    Case("names", ("+loss.cosine.layers=[conv9]",)),
    Case("names", ("method=gradient", "+loss.l1.weight=1")),
    Case("numbers", ("method=kkt", "n_generators=2")),
)
"""Keys of an application that are missing or exclude each other."""


@pytest.mark.parametrize("group", ["names", "files and places", "loggers", "numbers", "sizes"])
def test_commands_are_refused_before_torch_is_imported(
    group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Run in this process, with the first step after the import of torch made to fail."""
    from netinv_lightning import run as entry
    from netinv_lightning.applications import memory_check
    from netinv_lightning.training import trainer

    def after_import(cfg: DictConfig) -> None:
        raise AssertionError("torch would have been imported")

    monkeypatch.setattr(trainer, "resolve_trainer", after_import)
    monkeypatch.setattr(memory_check, "memory_bytes", lambda: 64 * 10**9)
    monkeypatch.setenv("NETINV_DATA", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)
    for case in [*without_files(group), *(case for case in ALWAYS if case.group == group)]:
        monkeypatch.setattr(sys, "argv", ["netinv", *case.words])
        with pytest.raises(SystemExit) as stopped:
            entry.main()
        captured = capfd.readouterr()
        assert (stopped.value.code, captured.out, captured.err.count("\n")) == (2, "", 1), (
            case,
            captured.err,
        )
        assert list(tmp_path.iterdir()) == [], case


def finished_run(path: Path) -> Path:
    """Write a run directory with complete files; its checkpoint contains no network."""
    (path / "checkpoints").mkdir(parents=True)
    (path / "config.yaml").write_text(
        OmegaConf.to_yaml(netinv_lightning.compose(["logger.project=p"]), resolve=True)
    )
    (path / "status.json").write_text(json.dumps({"state": "done"}))
    (path / "summary.json").write_text(
        json.dumps({"inversion/accuracy": 0.5, "inversion/accuracy_hot": 0.5})
    )
    with zipfile.ZipFile(path / "checkpoints" / "last.ckpt", "w") as content:
        content.writestr("archive/data.pkl", b"0123456789" * 100)
    return path


def test_each_damage_of_a_finished_run_is_one_line(tmp_path: Path) -> None:
    whole = finished_run(tmp_path / "whole")
    assert check_finished(whole, "application.run=whole").application.name == "invert"
    damage_runs(whole, tmp_path / "damaged")
    for name in DAMAGES:
        directory = tmp_path / "damaged" / name.replace(" ", "_")
        with pytest.raises(InputError) as refused:
            check_finished(directory, f"application.run={directory}")
        assert "\n" not in str(refused.value), name
        assert str(directory) in str(refused.value), name
