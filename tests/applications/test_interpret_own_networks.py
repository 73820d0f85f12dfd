"""`interpret=full` with networks of a user: what is refused, and what is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.errors import InputError
from tests.applications.test_interpret import SMALL, numbers, summary
from tests.conftest import FEW_STEPS


class Narrow(nn.Module):
    """Network with two features before the last layer."""

    def __init__(self, features: int = 2) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(784, features), nn.ReLU())
        self.head = nn.Linear(features, 3)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BN: Tensor = self.head(self.body(x_BCHW))
        return logits_BN


def invert(network: nn.Module, folder: Path, *overrides: str) -> None:
    netinv_lightning.invert(
        network,
        3,
        1,
        28,
        overrides=[*FEW_STEPS, *SMALL, "data.root=nowhere", "interpret=full", *overrides],
        run_dir=folder,
    )


def test_data_of_another_shape_are_refused_before_the_inversion(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"data=mnist5k: has num_classes=10, but the classifier has num_classes=3",
    ):
        netinv_lightning.invert(
            Narrow(5),
            3,
            1,
            28,
            overrides=[*FEW_STEPS, *SMALL, "data=mnist5k", "interpret=full"],
            run_dir=tmp_path / "refused",
        )
    assert not (tmp_path / "refused").exists()


def test_a_layer_of_two_features_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"interpret.layer=penultimate: has 2 features. The analyses need 3 or more",
    ):
        invert(Narrow(), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_with_images_of_one_class_only_the_inversion_is_kept(tmp_path: Path) -> None:
    network = Narrow(5)
    with torch.no_grad():
        network.head.weight.mul_(1e-3)  # not 0, because a network without a gradient is refused
        network.head.bias.copy_(torch.tensor([0.0, 9.0, 0.0]))
    invert(network, tmp_path / "one")
    line = "the classifier predicts class 1 for all 200 samples"
    assert line in (tmp_path / "one" / "run.log").read_text()
    assert numbers(tmp_path / "one") == {}
    assert names.INVERSION_ACCURACY in summary(tmp_path / "one")
