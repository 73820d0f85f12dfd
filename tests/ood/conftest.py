"""Figures of detectors, drawn without being written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from netinv_lightning.ood import confidence_figure, detection_figure, roc_figure


def replace_save(monkeypatch: pytest.MonkeyPatch, save: Callable[[Figure, Path], Path]) -> None:
    for module in (roc_figure, confidence_figure, detection_figure):
        monkeypatch.setattr(module, "save", save)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Draw the figures with their final layout, without writing them."""
    figures: list[Figure] = []

    def keep(figure: Figure, path: Path) -> Path:
        for _ in range(2):  # the first pass computes the layout
            figure.draw_without_rendering()
        figures.append(figure)
        return path

    replace_save(monkeypatch, keep)
    return figures


def legend(figure: Figure) -> list[str]:
    """Return the texts of the legends, without line breaks and with plain spaces."""
    return [
        " ".join(text.get_text().split())
        for legend in figure.legends
        for text in legend.get_texts()
    ]
