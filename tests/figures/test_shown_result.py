"""The picture that a notebook shows of an inversion."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import netinv_lightning
from tests.conftest import FEW_STEPS


def test_a_result_is_shown_as_a_grid_of_its_samples(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 16), nn.Linear(16, 5))
    result = netinv_lightning.invert(
        network, 5, 3, 32, overrides=FEW_STEPS, run_dir=tmp_path / "run"
    )
    picture = result.show(columns=2)
    assert picture.format is None
    assert picture.width > 50
    assert picture.getextrema()[0] != (255, 255)
    assert result.show(columns=4).width > picture.width
