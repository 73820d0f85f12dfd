"""Checkpoints of other projects: prefixed names, nested keys, tied weights and TorchScript."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file, save_model
from torch import Tensor, nn

import netinv_lightning
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.checkpoints import load_checkpoint, load_weights, save_classifier
from netinv_lightning.errors import InputError
from netinv_lightning.runs.notices import notices_of_a_run

State = dict[str, Tensor]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(243, 10)
    )


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def written(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def same(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(
        torch.equal(tensor, theirs[name])
        for name, tensor in one.state_dict().items()
        if not name.endswith("tracked")
    )


OPTIMIZER = {
    "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(3)}},
    "param_groups": [{"lr": 0.1, "params": [0]}],
}


@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (lambda s: s, ""),
        (lambda s: {k: v for k, v in s.items() if not k.endswith("tracked")}, ""),
        (lambda s: {**s, "0.total_ops": torch.zeros(1)}, ""),
        (lambda s: prefixed("_orig_mod.", s), "the prefix _orig_mod. of their names is removed"),
        (
            lambda s: {"state_dict": prefixed("module.", s), "epoch": 3},
            "under its key state_dict; the prefix module. of",
        ),
        (
            lambda s: {"state_dict": prefixed("model.", s), "hyper_parameters": {"lr": 1}},
            "key state_dict; the prefix model. of",
        ),
        (lambda s: {"net": s, "acc": 93.1}, "the weights are those under its key net"),
        (
            lambda s: {"model_state_dict": s, "optimizer_state_dict": OPTIMIZER},
            "under its key model_state_dict",
        ),
        (
            lambda s: {"a": {"b": prefixed("encoder.backbone.", s)}},
            "under its key a.b; the prefix encoder.backbone. of",
        ),
        (
            lambda s: {**prefixed("net.", s), "loss.weight": torch.ones(9)},
            "1 of its tensors have another prefix and are not used",
        ),
        (
            lambda s: {"model": s, "ema": {k: v + 1 for k, v in s.items()}},
            "under its key model; not used: ema",
        ),
        (
            lambda s: {name.replace("0.", "0.module."): v for name, v in s.items()},
            "the prefix module. of",
        ),
        (lambda s: {k: v.half().float() if v.is_floating_point() else v for k, v in s.items()}, ""),
    ],
)
def test_the_state_dict_of_a_checkpoint_is_found(
    wrap: Callable[[State], Any], said: str, tmp_path: Path
) -> None:
    source = network().half().float()
    path = written(wrap(source.state_dict()), tmp_path / "theirs.pth")
    told = load_checkpoint(mine := network(1), path)
    assert same(source, mine)
    assert said in told if said else told == ""


def test_weights_without_prefix_in_half_precision_are_loaded(
    tmp_path: Path,
) -> None:
    source, holder = network().half(), nn.Module()
    holder.body = network(1)
    save_file(
        source.state_dict(),
        tmp_path / "theirs.safetensors",
        metadata={"format": "pt", "epoch": "3"},
    )
    assert (
        load_checkpoint(holder, tmp_path / "theirs.safetensors")
        == "their names get the prefix body."
    )
    assert same(source.float(), holder.body)


def test_several_networks_in_one_file_are_refused(tmp_path: Path) -> None:
    state = network().state_dict()
    path = written({"student": state, "teacher": state}, tmp_path / "two.pt")
    with pytest.raises(InputError, match=r"weights of several networks fit \(student, teacher\)"):
        load_checkpoint(network(), path)


def test_a_checkpoint_that_does_not_fit_names_the_differences(tmp_path: Path) -> None:
    state = network().state_dict()
    path = written(
        {"state_dict": {**prefixed("module.", state), "module.4.weight": torch.ones(5, 243)}},
        tmp_path / "other.pt",
    )
    with pytest.raises(
        InputError,
        match=r"architecture Sequential: 1 of another shape \(4.weight is \(5, 243\) in the file",
    ):
        load_checkpoint(network(), path)


class Tied(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.b.weight = self.a.weight


def test_tied_weights_are_saved_and_loaded(tmp_path: Path) -> None:
    save_classifier(tmp_path / "tied.safetensors", Tied(), {})
    assert {"a.weight", "b.weight"} <= load_file(tmp_path / "tied.safetensors").keys()
    load_checkpoint(mine := Tied(1), tmp_path / "tied.safetensors")
    assert same(Tied(), mine)
    assert mine.a.weight is mine.b.weight
    save_model(
        Tied(), str(tmp_path / "once.safetensors")
    )  # safetensors keeps one of two tied names
    assert len(load_file(tmp_path / "once.safetensors")) == 5
    load_checkpoint(mine := Tied(1), tmp_path / "once.safetensors")
    assert same(Tied(), mine)


def test_a_torchscript_archive_is_executed_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    torch.jit.trace(network().eval(), torch.zeros(2, 1, 28, 28)).save(str(path))
    with pytest.raises(
        InputError,
        match="is a TorchScript archive, which contains a program; programs from files are not",
    ):
        load_weights(path)
    frozen = load_classifier(
        netinv_lightning.compose(
            ["data=mnist", "classifier=torchscript", f"classifier.path={path}"]
        )
    )
    assert frozen.feature_dims == {"logits": 10}
    x_BCHW = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(frozen(x_BCHW), network().eval()((x_BCHW - 0.1307) / 0.3081))


def test_the_normalisation_and_its_source_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "theirs_of_checkpoints.py").write_text(
        "from torch import nn\n\n\ndef make():\n    return nn.Sequential(nn.Conv2d(1, 3, 3, 3), "
        "nn.BatchNorm2d(3), nn.ReLU(), "
        "nn.Flatten(), nn.Linear(243, 10))\n"
    )
    path = written({"net": network().state_dict()}, tmp_path / "theirs.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        named = [
            "classifier=checkpoint",
            f"classifier.path={path}",
            "+classifier.network={_target_: theirs_of_checkpoints.make}",
        ]
        sizes = [
            "data=npz",
            "classifier.num_classes=10",
            "classifier.channels=1",
            "classifier.image_size=28",
        ]
        expected = [
            (
                ["data=fashion_mnist"],
                "mean [0.286] and std [0.353] from data=fashion_mnist",
                [0.286],
            ),
            (
                ["data=mnist", "classifier.mean=[0.25]"],
                "mean [0.25] and std [0.3081] from classifier.mean and data=mnist",
                [0.25],
            ),
            (
                sizes,
                "images are not normalised; if the training images were, set classifier.mean and "
                "classifier.std",
                [0.0],
            ),
            (["data=mnist", "classifier.mean=[0.5]", "classifier.std=[0.5]"], "", [0.5]),
        ]
        for overrides, said, mean in expected:
            with notices_of_a_run():
                frozen = load_classifier(netinv_lightning.compose([*named, *overrides]))
            printed = capsys.readouterr().err
            assert said in printed
            assert frozen.record()["mean"] == mean
        assert "normalised" not in printed  # given by the user
        with pytest.raises(InputError, match="must be one of"), notices_of_a_run():
            load_classifier(
                netinv_lightning.compose([*named, "data=fashion_mnist", "classifier.output_kind=x"])
            )
        assert capsys.readouterr().err == ""  # the refusal prints nothing else
