"""A fixture that collects figures instead of writing them."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from netinv_lightning.interpretability.figures import charts, pca, regions, tsne, units


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collect the drawn figures without writing files."""
    figures: list[Figure] = []

    def collect(figure: Figure, path: Path) -> Path:
        figure.draw_without_rendering()
        figures.append(figure)
        return path.with_suffix(".png")

    for module in (charts, pca, regions, tsne, units):
        monkeypatch.setattr(module, "save", collect)
    return figures
