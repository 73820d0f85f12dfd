"""Keys in the config of a run directory that lead to code, to the network or to other folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import netinv_lightning
from netinv_lightning.config.allowed_targets import only_allowed
from netinv_lightning.config.description_check import check_network
from netinv_lightning.errors import InputError
from netinv_lightning.runs.resume import read_config, resumed_config
from tests.config.gadgets import CNN


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"loss.mine": {"weight": 1, "_target_": "os.system"}},
            r"loss\.mine\._target_=os\.system is outside",
        ),
        (
            {"loss.mine": {"weight": 1, "_target_": "timm.create_model"}},
            r"loss\.mine\._target_=timm\.create_model is outside",
        ),
        (
            {"application": {"name": "distill", "student": {"_target_": "os.system"}}},
            r"application\.student\._target_=os\.system is outside",
        ),
        (
            {"trainer.strategy": {"_target_": "os.system"}},
            r"trainer\.strategy\._target_=os\.system is outside",
        ),
        (
            {"trainer.default_root_dir": "/tmp/x"},
            r"trainer\.default_root_dir=/tmp/x: is not allowed in a file",
        ),
        ({"trainer.plugins": ["x"]}, r"trainer\.plugins=\['x'\]: is not allowed in a file"),
        (
            {"method": {"name": "gradient", "steps": {"_target_": "os.system"}}},
            r"method\.steps\._target_=os\.system is outside",
        ),
        (
            {"logger.project": "${oc.env:HOME}"},
            r"logger\.project=\${oc\.env:HOME}: is an interpolation",
        ),
        ({"data.path": "a${x}"}, r"data\.path=a\${x}: is an interpolation"),
        ({"seed": "???"}, r"seed=\?\?\?: is missing"),
        ({"garbage": {"../../x": {"source": "noise"}}}, r"garbage\.\.\./\.\./x: is not a name"),
        (
            {"garbage": {"x": {"inversion": ["+loss.m._target_=os.system"]}}},
            r"garbage\.x\.inversion: .*loss\.m\._target_=os\.system is",
        ),
        (
            {"application": {"name": "audit", "overrides": ["hydra.searchpath=[/tmp]"]}},
            r"overrides: hydra\.searchpath=.*is not allowed",
        ),
        (
            {
                "application": {
                    "name": "benchmark",
                    "overrides": ["+classifier.network={_target_: os.system}"],
                }
            },
            r"overrides: .*classifier\.network\._target_=os\.system is outside",
        ),
        (
            {"application": {"name": "benchmark", "experiments": ["../../evil"]}},
            r"application\.experiments=\.\./\.\./evil: is not the name of a choice",
        ),
    ],
)
def test_every_key_that_leads_out_is_refused(
    keys: dict[str, Any], message: str, run_dir: Callable[..., Path]
) -> None:
    with pytest.raises(InputError, match=message):
        read_config(run_dir(**keys))


def test_path_outside_must_be_on_the_command_line(
    run_dir: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = "/elsewhere/mine.safetensors"
    directory = run_dir(
        application={"name": "train_classifier", "save_as": place},
        **{"classifier.kept_in": str(tmp_path / "kept")},
    )
    (directory / "status.json").write_text('{"state": "running"}')
    with pytest.raises(
        InputError,
        match=r"application\.save_as=/elsewhere/.*: is outside the working directory",
    ):
        resumed_config(netinv_lightning.compose([f"resume={directory}"]), [f"resume={directory}"])
    words = [f"resume={directory}", "application=train_classifier", f"application.save_as={place}"]
    keys = [words[0], words[2]]  # as in a command that names no group
    assert resumed_config(netinv_lightning.compose(words), keys).application.save_as == place


def test_plain_dollar_is_kept(run_dir: Callable[..., Path]) -> None:
    assert read_config(run_dir(**{"data.path": "$5_$10"})).data.path == "$5_$10"


def test_only_the_reader_decides_what_is_trusted(run_dir: Callable[..., Path]) -> None:
    directory = run_dir(
        {"_target_": "mine.Net", "part": {"_target_": "mine.parts.Block"}},
        trusted=["os", "mine.Net"],
    )
    for refused, named in (
        ([], "_target_=mine.Net"),
        (["mine.Net"], "part._target_=mine.parts.Block"),
        (["min"], "_target_=mine.Net"),
    ):
        with pytest.raises(InputError, match=named.replace(".", r"\.")):
            read_config(directory, refused)
    for trusted in (["mine"], ["mine."], ["mine.Net", "mine.parts"]):
        cfg = read_config(directory, trusted)
        assert cfg.classifier.network.part._target_ == "mine.parts.Block"
        assert cfg.trusted == []
    with only_allowed(["mine"]):
        assert read_config(directory).classifier.network._target_ == "mine.Net"
    words = [
        f"resume={directory}",
        "classifier=checkpoint",
        "classifier.path=x",
        "application.steps=9",
    ]
    with pytest.raises(InputError, match=r"part\._target_=mine\.parts\.Block is outside"):
        resumed_config(
            netinv_lightning.compose([*words, "+classifier.network={_target_: mine.Net}"]), words
        )


def test_pretrained_weights_need_trust(run_dir: Callable[..., Path]) -> None:
    network = {"_target_": "torchvision.models.get_model", "name": "resnet18", "weights": "DEFAULT"}
    directory = run_dir(network)
    message = r"weights=DEFAULT: would load weights .*trusted=\[torchvision\.models\.get_model\]"
    with pytest.raises(InputError, match=message):
        netinv_lightning.load_run(directory)
    assert (
        read_config(directory, ["torchvision.models.get_model"]).classifier.network.weights
        == "DEFAULT"
    )


@pytest.mark.parametrize(
    "network",
    [
        {"_target_": CNN, "stages": [[4], [4]], "hidden": 8},
        {"_target_": "torchvision.models.resnet18", "num_classes": 10, "weights": None},
        {"_target_": "torchvision.models.get_model", "name": "resnet18", "num_classes": 10},
        {"_target_": "torchvision.models.AlexNet", "num_classes": 10},
        {
            "_target_": "timm.create_model",
            "model_name": "resnet18.a1_in1k",
            "pretrained": False,
            "drop_path_rate": 0.1,
        },
    ],
)
def test_plain_architectures_pass(network: dict[str, Any]) -> None:
    check_network(network, "a card")
