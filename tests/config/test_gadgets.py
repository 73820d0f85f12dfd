"""No code of a run directory or model card runs, whatever reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import netinv_lightning
from netinv_lightning.applications import make_application
from netinv_lightning.classifiers.build import load_carded, training_split
from netinv_lightning.classifiers.zoo import zoo_path
from netinv_lightning.config.allowed_targets import only_allowed
from netinv_lightning.config.description_check import check_network
from netinv_lightning.config.instantiate import construct
from netinv_lightning.config.outside_config import check_run_config
from netinv_lightning.errors import InputError
from netinv_lightning.explorer.command import main as explore
from netinv_lightning.html_report.command import main as report
from netinv_lightning.runs.resume import read_config, resumed_config
from tests.config.gadgets import FORMS, GADGETS, RUN, filled


def in_form(form: str, gadget: str, canary: Path) -> dict[str, Any]:
    description = filled(GADGETS[gadget], canary)
    return FORMS[form](description, json.dumps(description).replace("'", "\\'"))


@pytest.mark.parametrize("gadget", GADGETS)
def test_gadget_is_refused_in_every_form(
    gadget: str, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GADGET", str(GADGETS[gadget]["_target_"]))
    for form in FORMS:
        network = in_form(form, gadget, canary)
        with pytest.raises(InputError, match=r"theirs: classifier\.network\."):
            check_run_config({"classifier": {"network": network}}, "theirs")
        with pytest.raises(InputError, match=r"its card: classifier\.network\."):
            check_network(network, "its card")
    assert not canary.exists()


@pytest.mark.parametrize("form", FORMS)
def test_reading_a_config_runs_no_gadget(
    form: str, run_dir: Callable[..., Path], canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GADGET", RUN)
    with pytest.raises(InputError, match=r"config\.yaml: classifier\.network\."):
        read_config(run_dir(in_form(form, "shell", canary)))
    assert not canary.exists()


def test_trusted_gadget_runs(canary: Path) -> None:
    description = filled(GADGETS["shell"], canary)
    with (
        only_allowed([]),
        pytest.raises(
            InputError,
            match=r"classifier\.network\._target_=torch\.utils\.collect_env\.run is outside",
        ),
    ):
        construct(description, "classifier.network")
    assert not canary.exists()
    with only_allowed([RUN]):
        construct(description, "classifier.network")
    assert canary.exists()


def resume(*further: str) -> Callable[[Path], Callable[[], Any]]:
    def prepare(path: Path) -> Callable[[], Any]:
        words = [f"resume={path}", *further]
        cfg = netinv_lightning.compose(words)
        return lambda: resumed_config(cfg, words)

    return prepare


def apply(name: str) -> Callable[[Path], Callable[[], Any]]:
    def prepare(path: Path) -> Callable[[], Any]:
        cfg = netinv_lightning.compose(
            [f"application={name}", f"application.run={path}", "trainer.accelerator=cpu"]
        )
        return lambda: make_application(cfg)

    return prepare


ENTRIES: dict[str, Callable[[Path], Callable[[], Any]]] = {
    "load_run": lambda path: lambda: netinv_lightning.load_run(path),
    "load_detector": lambda path: lambda: netinv_lightning.load_detector(path, "msp"),
    "resume": resume(),
    "resume with a key": resume("application.steps=5000"),
    "resume with the command": resume("+experiment=mnist_invert"),
    **{
        name: apply(name) for name in ("measure", "interpret", "distill", "counterfeit", "finetune")
    },
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_no_entry_point_runs_code_of_a_run(
    entry: str, run_dir: Callable[..., Path], canary: Path
) -> None:
    use = ENTRIES[entry](run_dir())
    for gadget, form in (("shell", "directly"), ("partial", "in a list"), ("shell", "decoded")):
        run_dir(in_form(form, gadget, canary))
        with pytest.raises(InputError, match=r"config\.yaml: classifier\.network\."):
            use()
    assert not canary.exists()


@pytest.mark.skipif(find_spec("gradio") is None, reason="needs the extra explore")
def test_explore_and_report_run_no_code_of_a_run(
    run_dir: Callable[..., Path], canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for form in ("directly", "decoded"):
        directory = run_dir(in_form(form, "shell", canary))
        assert explore([str(directory)]) == 2
        assert capsys.readouterr().err.startswith(
            f"error: {directory}/config.yaml: classifier.network."
        )
        assert report([str(directory)]) == 0
    assert not canary.exists()


def test_model_card_runs_no_code(tmp_path: Path, canary: Path) -> None:
    weights = tmp_path / "mine.safetensors"
    shutil.copy(zoo_path("mnist_cnn"), weights)
    card = json.loads(zoo_path("mnist_cnn").with_suffix(".json").read_text())
    cfg = netinv_lightning.compose(
        [
            "application=audit",
            "classifier=checkpoint",
            f"classifier.path={weights}",
            "trainer.accelerator=cpu",
        ]
    )
    for form in ("directly", "in a list", "decoded"):
        network = in_form(form, "shell", canary)
        weights.with_suffix(".json").write_text(json.dumps({**card, "network": network}))
        for use in (lambda: load_carded(weights, "mine"), lambda: make_application(cfg)):
            with pytest.raises(InputError, match=r"its card: classifier\.network\."):
                use()
    recipe = {**card["recipe"], "split_seed": "${oc.decode:'{_target_: os.system}'}"}
    weights.with_suffix(".json").write_text(json.dumps({**card, "recipe": recipe}))
    with pytest.raises(InputError, match=r"its card: recipe\.split_seed=.*is an interpolation"):
        training_split(cfg)
    card["data"]["class_names"] = [
        "$5_$10",
        "${x}",
        *map(str, range(8)),
    ]  # names of folders, which no config contains
    weights.with_suffix(".json").write_text(json.dumps(card))
    assert load_carded(weights, "mine").spec.class_names[:2] == ("$5_$10", "${x}")
    assert not canary.exists()
