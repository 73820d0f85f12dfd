"""Grids of a run's images.

Shape suffixes: R rows, K columns, C channels, H height, W width.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from netinv_lightning.evaluation import grid
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.generator import Generator


def test_a_grid_of_many_classes_shows_twenty(tmp_path: Path, monkeypatch: Any) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(grid, "image_grid", lambda *given: drawn.append(given))
    conditioning = Conditioning(1000, 64, classes=range(1, 900, 2))
    torch.manual_seed(0)
    generator = Generator(conditioning, 1, 64)
    classes = tuple(f"class {label}" for label in range(1000))
    inversion = SimpleNamespace(
        conditioning=conditioning,
        n_generators=1,
        device=torch.device("cpu"),
        draw=lambda condition, g: generator(
            generator.sample_latent(len(condition.label_B)), condition
        ),
        classifier=SimpleNamespace(spec=SimpleNamespace(class_names=classes)),
    )
    grid.draw_grid(inversion, 2, 0, tmp_path / "grid.png", "title")  # type: ignore[arg-type]
    x_RKCHW, names_R, _, title, _ = drawn[0]
    assert x_RKCHW.shape == (20, 2, 1, 64, 64)
    assert list(names_R) == [f"class {label}" for label in range(1, 40, 2)]
    assert title == "title (first 20 of 450 classes)"
