"""Sweeps and retries that are refused before a job starts: one line, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

Netinv = Callable[..., int]

REFUSED = {
    "generator=tiny,hugee": "generator=hugee: there is no such choice",
    "loss.cosin.weight=1,2": "loss.cosin.weight: there is no such key; did you mean 'loss.cosine",
    "seed=0,1.5": "seed=1.5: must be a whole number",
    "resume=a,b": "resume=a: continues a single run, without -m",
    "+sweep=conditionin": "sweep=conditionin: there is no such choice; did you mean 'conditioning'",
    "trainer=ddp": "sweep again in every process; use trainer.strategy=ddp_spawn",
    "seed=range(3,3)": "seed=range(3,3): has no value",
}


@pytest.mark.parametrize("argument", REFUSED)
def test_an_invalid_sweep_is_refused_before_a_job_starts(
    argument: str, netinv: Netinv, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert netinv("-m", argument) == 2
    printed = capfd.readouterr()
    assert printed.err.count("\n") == 1
    assert REFUSED[argument] in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_search_over_an_unknown_key_is_refused(
    netinv: Netinv, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine" / "sweep"
    folder.mkdir(parents=True)
    space = "hydra: {sweeper: {params: {loss.cosin.weight: 'interval(1, 2)'}}}"
    (folder / "own.yaml").write_text(f"# @package _global_\ndefaults: [loss_weights]\n{space}\n")
    assert netinv("-cd", str(tmp_path / "mine"), "-m", "+sweep=own") == 2
    assert (
        "loss.cosin.weight: there is no such key; did you mean 'loss.cosine.weight'?"
        in capfd.readouterr().err
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_sweep_config_without_m_is_refused(
    netinv: Netinv, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert netinv("+sweep=conditioning") == 2
    assert capfd.readouterr().err == "error: +sweep=conditioning: is a sweep; add -m\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argument", "choice", "extra"),
    [
        ("+sweep=loss_weights", "hydra/sweeper=optuna", "optuna"),
        ("hydra/launcher=joblib", "hydra/launcher=joblib", "sweep"),
        ("hydra/launcher=slurm", "hydra/launcher=submitit_slurm", "slurm"),
    ],
)
def test_a_missing_extra_is_named(
    argument: str,
    choice: str,
    extra: str,
    netinv: Netinv,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Plugins.instance()  # they store their configs when they are found
    _, group, name = choice.replace("=", "/").split("/")
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"][group], f"{name}.yaml")
    assert netinv("-m", argument) == 2
    message = "is not installed; install the extra: pip install"
    expected = f"error: {choice}: {message} 'netinv_lightning[{extra}]'\n"
    assert capfd.readouterr().err == expected


def test_retry_refuses_what_is_not_a_sweep(
    netinv: Netinv, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "sweep.json").write_text('{"command": [')
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text(
        '{"command": ["-m"], "overrides": [], "jobs": {}}'
    )
    cases = {
        ("nowhere",): "nowhere: is not a sweep (it has no sweep.json); give a directory",
        (): "retry: the sweep is missing; give netinv retry SWEEP_DIRECTORY",
        ("damaged",): "sweep.json: is damaged",
        ("sweep", "seed=5"): "seed=5: would change the jobs of the sweep",
    }
    for arguments, message in cases.items():
        assert netinv("retry", *arguments) == 2
        printed = capfd.readouterr().err
        assert message in printed
        assert printed.count("\n") == 1
