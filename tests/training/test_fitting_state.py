"""A checkpoint is refused in one line if it is damaged or belongs to another network."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch
from torch import nn

from netinv_lightning.errors import InputError
from netinv_lightning.training.checkpoints import fitting_state


class Module(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)


def stored(path: Path, **weights: torch.Tensor) -> Path:
    torch.save({"state_dict": {name.replace("_", "."): w for name, w in weights.items()}}, path)
    return path


def test_the_weights_of_the_module_itself_are_returned(tmp_path: Path) -> None:
    module = Module()
    torch.save({"state_dict": module.state_dict()}, tmp_path / "last.ckpt")
    state = fitting_state(module, tmp_path / "last.ckpt")
    assert {name: tuple(weight.shape) for name, weight in state.items()} == {
        "layer.weight": (3, 2),
        "layer.bias": (3,),
    }


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (
            {"layer_weight": torch.zeros(1, 2), "layer_bias": torch.zeros(3)},
            r"layer.weight is \(1, 2\) in the file, \(3, 2\) in the network; differing tensors: 1",
        ),
        ({"layer_weight": torch.zeros(3, 2)}, r"layer.bias is missing in the file, \(3,\) in the"),
        (
            {"layer_weight": torch.zeros(3, 2), "layer_bias": torch.zeros(3), "x": torch.zeros(1)},
            r"x is \(1,\) in the file, missing in the network",
        ),
    ],
)
def test_weights_of_another_network_are_refused(
    weights: dict[str, torch.Tensor], said: str, tmp_path: Path
) -> None:
    path = stored(tmp_path / "last.ckpt", **weights)
    with pytest.raises(InputError, match=f"last.ckpt: does not match the network .*{said}"):
        fitting_state(Module(), path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = stored(tmp_path / "last.ckpt", layer_weight=torch.zeros(3, 2))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        InputError, match=r"last.ckpt: is not a complete checkpoint .*; run it again$"
    ):
        fitting_state(Module(), path)
