"""Figures of a student's training images and of counterfeits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from netinv_lightning.downstream.downstream_figures import counterfeit_grid, student_images_figure


def test_figure_has_a_row_per_class_oldest_image_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Tensor] = []
    monkeypatch.setattr(
        "netinv_lightning.downstream.downstream_figures.image_grid",
        lambda x_RKCHW, rows, path, title: drawn.append(x_RKCHW) or rows,
    )
    number_n = torch.arange(100)
    images_nCHW = (number_n / 200)[:, None, None, None].expand(100, 1, 2, 2)
    predicted_n = torch.where(number_n == 50, 2, 0)  # one image of class 2, none of class 1
    assert student_images_figure(
        images_nCHW, predicted_n, ("a", "b", "c"), tmp_path / "taught.png"
    ) == [
        "a",
        "b (none)",
        "c",
    ]
    value_RK = drawn[0][:, :, 0, 0, 0]
    assert value_RK.shape == (3, 12)
    assert (value_RK[0, 0], value_RK[0, -1]) == (0, 99 / 200)
    assert bool((value_RK[0].diff() > 0).all())
    assert bool((value_RK[1] == 1).all())
    assert (value_RK[2, 0], value_RK[2, 1]) == (0.25, 1)


def test_rows_of_different_lengths_are_drawn(tmp_path: Path) -> None:
    pairs = {
        "none": torch.empty(0, 2, 1, 8, 8),
        "a": torch.rand(3, 2, 1, 8, 8),
        "b": torch.rand(1, 2, 1, 8, 8),
    }
    assert counterfeit_grid(pairs, tmp_path / "pairs.png").stat().st_size > 1000
