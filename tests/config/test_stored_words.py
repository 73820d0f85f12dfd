"""The stored command of a sweep, and the import of code by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import netinv_lightning
from netinv_lightning.config.allowed_targets import only_allowed
from netinv_lightning.config.instantiate import construct, locate
from netinv_lightning.config.outside_config import check_words
from netinv_lightning.errors import InputError
from netinv_lightning.runs.sweep_retry import retry_arguments
from tests.config.gadgets import CNN


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "+classifier.network={_target_: os.system, command: x}",
            r"classifier\.network\._target_=os\.system is outside",
        ),
        ("classifier.network._target_=os.system,os.popen", r"_target_=os\.system is outside"),
        ("+loss.x._target_=os.system", r"loss\.x\._target_=os\.system is outside"),
        (
            "classifier={network:{_target_: os.system}}",
            r"classifier\.network\._target_=os\.system is outside",
        ),
        ("+classifier.network.weights=DEFAULT", "would load weights or files"),
        ("classifier.network.model_name=hf-hub:x/y", "would load weights or files"),
        (
            "application.overrides=['+loss.x._target_=os.system']",
            r"loss\.x\._target_=os\.system is outside",
        ),
        ("x='${oc.env:HOME}'", "is an interpolation"),
        ("+experiment=../../tmp/evil", "is not the name of a choice"),
        ("+../../tmp/evil=x", "is not KEY=VALUE"),
        ("hydra.searchpath=[/tmp]", "is not allowed in a file; repeat it on the command line"),
        ("hydra.callbacks.x._target_=os.system", "is not allowed in a file"),
        ("hydra.launcher.setup=[reboot]", "is not allowed in a file"),
        ("application.save_as=/tmp/x.safetensors", "outside the working directory"),
        ("trusted=[os]", "is not allowed in a file"),
        ("--config-dir=/tmp", "is not allowed in a file; repeat it"),
        ("-cd", "is not allowed in a file; repeat it"),
    ],
)
def test_retry_refuses_words_that_lead_out(word: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(
        json.dumps({"command": ["-m", "seed=0,1", word], "overrides": [], "jobs": {}})
    )
    with pytest.raises(InputError, match=message):
        retry_arguments([str(tmp_path)])
    repeated = retry_arguments([str(tmp_path), word])  # the user has repeated it
    assert repeated == ["-m", "seed=0,1", word, f"hydra.sweep.dir={tmp_path}"]


def test_retry_accepts_ordinary_words_and_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "-m",
        "+experiment=mnist_invert,cifar_invert",
        "seed=range(0,3)",
        "~loss.cosine",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
    ]
    own = "classifier.network._target_=mine.Net"
    manifest = {"command": [*words, own], "overrides": [], "jobs": {}, "cwd": str(tmp_path)}
    (tmp_path / "sweep.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"mine\.Net is outside"):
        retry_arguments([str(tmp_path)])
    assert retry_arguments([str(tmp_path), "trusted=[mine]"]) == [
        *words,
        own,
        f"hydra.sweep.dir={tmp_path}",
    ]


def test_locate_and_construct_refuse_other_code() -> None:
    assert locate("json.dumps", "x") is json.dumps
    with only_allowed(["json.dumps"]):
        assert locate("json.dumps", "x") is json.dumps
        with pytest.raises(InputError, match=r"x=json\.loads is outside the allow-list"):
            locate("json.loads", "x")
        with pytest.raises(InputError, match=r"=os\.system is outside"):
            netinv_lightning.compose(["+loss.own={weight: 1, _target_: os.system}"])
    with pytest.raises(InputError, match="is an interpolation"):
        construct({"_target_": CNN, "hidden": "${oc.env:HOME}"}, "classifier.network")


def test_stored_words_must_be_a_list_of_strings() -> None:
    for words in ("seed=1", [1], {"a": 1}):
        with pytest.raises(InputError, match="is not a list of overrides"):
            check_words(words, "sweep.json")
