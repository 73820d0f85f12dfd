"""Figure of the perturbation study: panels, lines and texts without overlaps."""

from __future__ import annotations

from itertools import combinations, product
from pathlib import Path

import matplotlib
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from netinv_lightning.figures import style
from netinv_lightning.inversion.perturbation import NORMS
from netinv_lightning.ood import perturbation_figure
from netinv_lightning.ood.perturbation_results import (
    DIRECTIONS,
    NormGain,
    PerturbationResults,
    PerturbationRow,
)

DETECTORS = ["msp", "energy", "mahalanobis", "knn"]


def results(strengths: list[float], detectors: list[str]) -> PerturbationResults:
    source = torch.Generator().manual_seed(0)
    kinds = list(product(DIRECTIONS, NORMS, strengths, detectors))
    aurocs = torch.rand(len(kinds), generator=source).tolist()
    rows = [
        PerturbationRow(*kind, auroc, auroc - 0.02, auroc + 0.02, 0.9 - kind[2], 0.1, 2.0, 0.3)
        for kind, auroc in zip(kinds, aurocs, strict=True)
    ]
    return PerturbationResults(
        tuple(rows),
        tuple(NormGain(d, n, 1, 1, 0.1, 0.0, 0.2, 0.0) for d, n in product(DIRECTIONS, NORMS[:2])),
        {},
        0.99,
    )


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Draw the figures without writing them."""
    figures: list[Figure] = []

    def keep(figure: Figure, path: Path) -> Path:
        figure.draw_without_rendering()
        figures.append(figure)
        return path

    monkeypatch.setattr(perturbation_figure, "save", keep)
    return figures


def test_png_and_pdf_are_written(tmp_path: Path) -> None:
    path = perturbation_figure.perturbation_curves(
        results([0.01, 0.1], DETECTORS), tmp_path / "shifts", "shifts"
    )
    assert path == tmp_path / "shifts.png"
    assert (tmp_path / "shifts.pdf").stat().st_size > 0
    with Image.open(path) as image:
        assert image.width == pytest.approx(style.TWO_COLUMNS * style.DPI, abs=1)


def test_each_line_shows_the_values_of_its_detector(drawn: list[Figure], tmp_path: Path) -> None:
    measured = results([0.01, 0.03, 0.1, 0.3], DETECTORS)
    perturbation_figure.perturbation_curves(measured, tmp_path / "shifts", "shifts")
    axes = drawn[0].axes
    assert [a.get_title() for a in axes] == ["L1", "L2", "L∞", "", "", ""]
    assert [a.get_ylabel() for a in axes] == ["random\nAUROC", "", "", "adversarial\nAUROC", "", ""]
    for (direction, norm), panel in zip(product(DIRECTIONS, NORMS), axes, strict=True):
        assert panel.get_xscale() == "log"
        chance, accuracy, *lines = panel.get_lines()
        assert list(chance.get_ydata()) == [0.5, 0.5]
        assert list(accuracy.get_ydata()) == pytest.approx([0.89, 0.87, 0.8, 0.6])
        assert len(panel.collections) == len(lines) == 4
        for name, line in zip(DETECTORS, lines, strict=True):
            expected = [
                row
                for row in measured.rows
                if (row.direction, row.norm, row.detector) == (direction, norm, name)
            ]
            assert list(line.get_xdata()) == [0.01, 0.03, 0.1, 0.3]
            assert list(line.get_ydata()) == [row.auroc for row in expected]
    labels = [text.get_text() for legend in drawn[0].legends for text in legend.get_texts()]
    assert labels == [*DETECTORS, "chance", "accuracy of the classifier"]


@pytest.mark.parametrize(
    ("strengths", "detectors"),
    [
        ([0.01, 0.03, 0.1, 0.3], DETECTORS),
        ([0.1], ["msp"]),
        (
            [0.001 * 1.5**i for i in range(15)],
            [
                "msp",
                "max_logit",
                "energy",
                "gen",
                "lc",
                "mahalanobis",
                "knn",
                "vim",
                "odin",
                "oodl",
            ],
        ),
    ],
)
def test_texts_are_inside_the_figure_and_do_not_overlap(
    strengths: list[float], detectors: list[str], drawn: list[Figure], tmp_path: Path
) -> None:
    settings = dict(matplotlib.rcParams)
    perturbation_figure.perturbation_curves(
        results(strengths, detectors),
        tmp_path / "shifts",
        "a title that is long enough for more than a single line, " * 3,
    )
    assert dict(matplotlib.rcParams) == settings
    figure = drawn[0]
    texts = [text for legend in figure.legends for text in legend.get_texts()] + figure.texts
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
        texts += [
            tick.label1 for axis in (axes.xaxis, axes.yaxis) for tick in axis.get_major_ticks()
        ]
    boxes = [
        (text.get_text(), text.get_window_extent())
        for text in texts
        if text.get_text() and text.get_visible()
    ]
    assert len(boxes) >= 15
    for text, box in boxes:
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width, text
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height + 1, text
    for (one, box), (other, other_box) in combinations(boxes, 2):
        assert not box.overlaps(other_box), (one, other)
