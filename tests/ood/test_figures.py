"""Figures of OOD detection: numbers, names and markers, and legible texts.

Shape suffixes: n images, S sets, d detectors.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from sklearn.metrics import roc_auc_score
from torch import Tensor

from netinv_lightning.figures.style import (
    ONE_COLUMN,
    OTHERS_COLOUR,
    SMALL_POINTS,
    TWO_COLUMNS,
    paper_style,
)
from netinv_lightning.ood import confidence_figure, detection_figure, roc_figure
from tests.ood.conftest import legend, replace_save

DETECTORS = [
    *(f"detector_{d}" for d in range(16)),
    "a detector with a very long name, too",
    "control",
]
SETS = [
    "gaussian_noise",
    "svhn",
    "lsun",
    "a data set with a very long name as well",
    "kmnist",
    "textures",
    "cifar10",
    "places365",
]
TITLE = (
    "an experiment with a rather long name: fashion_mnist, seed 3, and every one of the detectors"
)


def beta(a: float, b: float, n: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).beta(a, b, n)).float()


def drawings(d: int, S: int, stem: Path) -> dict[str, Callable[[], Path]]:
    """Draw every figure, by name, with invented scores of d detectors and S data sets."""
    detectors, sets = DETECTORS[:d], SETS[:S]
    inside = {name: beta(2, 6, 60, i) for i, name in enumerate(detectors)}
    outside = {
        s: {name: beta(1 + (i + 3 * j) % 9, 2, 40, i + j) for i, name in enumerate(detectors)}
        for j, s in enumerate(sets)
    }
    confident = {s: beta(1 + j, 2, 40, j) for j, s in enumerate(sets)}
    panels = {
        "plain": (beta(9, 1, 60, 0), confident),
        "with a garbage class": (beta(30, 1, 60, 1).clamp(min=0.6), confident),
    }
    auroc_dS = torch.stack([beta(5, 1, S, i) for i in range(d)])
    return {
        "roc": lambda: roc_figure.roc_curves(inside, outside, stem, TITLE),
        "confidence": lambda: confidence_figure.confidence_histograms(
            {"plain": panels["plain"]}, stem, TITLE
        ),
        "two classifiers": lambda: confidence_figure.confidence_histograms(panels, stem, TITLE),
        "three classifiers": lambda: confidence_figure.confidence_histograms(
            {**panels, "third": panels["plain"]}, stem, TITLE
        ),
        "table": lambda: detection_figure.detection_heatmap(
            auroc_dS, detectors, sets, stem, TITLE, ["control"]
        ),
    }


NAMES = list(drawings(1, 1, Path()))


def values_in(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    return [text.get_text() for text in legend.get_texts()] if legend else []


@pytest.mark.parametrize(
    ("name", "d", "S"),
    [
        *((name, 1, 1) for name in ("roc", "confidence", "two classifiers", "table")),
        *((name, 18, 8) for name in ("roc", "confidence", "three classifiers", "table")),
        ("roc", 10, 2),
        ("roc", 6, 5),
        ("table", 10, 2),
        ("two classifiers", 1, 3),
    ],
)
def test_texts_are_readable_and_do_not_overlap(
    name: str, d: int, S: int, drawn: list[Figure], tmp_path: Path
) -> None:
    """Texts are at least 7 points high, inside the canvas, and do not overlap."""
    with paper_style():
        drawings(d, S, tmp_path / "figure")[name]()
        (figure,) = drawn
        written = [
            (text, text.get_window_extent())
            for text in figure.findobj(Text)
            if text.get_visible() and text.get_text().strip()
        ]  # type: ignore[attr-defined]
    assert figure.get_suptitle().split() == TITLE.split()
    for text, box in written:
        assert text.get_fontsize() >= SMALL_POINTS, text
        assert figure.bbox.x0 - 1 <= box.x0, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert figure.bbox.y0 - 1 <= box.y0, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    for (one, box), (other, other_box) in itertools.combinations(written, 2):
        if (
            not one.get_rotation() % 90 and not other.get_rotation() % 90
        ):  # a rotated name is much smaller than its bounding box
            assert not box.padded(-1).overlaps(other_box.padded(-1)), (one, other)
    assert figure.get_size_inches()[0] in (ONE_COLUMN, TWO_COLUMNS)


@pytest.mark.parametrize("name", NAMES)
def test_drawing_changes_neither_settings_nor_randomness(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_save(monkeypatch, lambda figure, path: path.with_suffix(".png"))
    settings, chance = dict(matplotlib.rcParams), torch.get_rng_state()
    assert drawings(2, 2, tmp_path / "figure")[name]() == tmp_path / "figure.png"
    assert dict(matplotlib.rcParams) == settings
    assert torch.equal(torch.get_rng_state(), chance)


def test_png_and_pdf_are_written(tmp_path: Path) -> None:
    assert drawings(1, 1, tmp_path / "new" / "figure")["roc"]() == tmp_path / "new" / "figure.png"
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"figure.png", "figure.pdf"}


# ROC curves


def test_roc_shows_values_of_the_best_and_names_of_the_others(
    drawn: list[Figure], tmp_path: Path
) -> None:
    inside = {f"d{i}": torch.arange(20.0) for i in range(8)}
    outside = {
        s: {f"d{i}": torch.arange(20.0) + 2 * i + shift for i in range(8)}
        for s, shift in (("near", 0), ("far", 4))
    }
    roc_figure.roc_curves(inside, outside, tmp_path / "roc")
    area = {
        (d, s): roc_auc_score([0] * 20 + [1] * 20, torch.cat([inside[d], scores[d]]))
        for s, scores in outside.items()
        for d in inside
    }
    (figure,) = drawn
    near, far = figure.axes
    assert (near.get_title(), far.get_title()) == ("near", "far")
    best = ["d7", "d6", "d5", "d4", "d3"]
    assert values_in(near) == [f"{area[d, 'near']:.3f}" for d in best]
    assert values_in(far) == [f"{area[d, 'far']:.3f}" for d in best]
    mean = {d: (area[d, "near"] + area[d, "far"]) / 2 for d in inside}
    others = ", ".join(f"{d} {mean[d]:.3f}" for d in ("d2", "d1", "d0"))
    assert legend(figure) == [
        "the best 5 of 8 by mean AUROC",
        *(f"{d} {mean[d]:.3f}" for d in best),
        f"the other 3: {others}",
    ]
    for axes in (near, far):
        chance, *lines = axes.lines
        assert [to_hex(str(line.get_color())).upper() for line in lines] == [OTHERS_COLOUR] * 3 + [
            style[0] for style in roc_figure.LINE_STYLES[::-1]
        ]
        assert chance.get_linestyle() == ":"
    for d, line in zip(["d0", "d1", "d2", *best[::-1]], near.lines[1:], strict=True):
        assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(area[d, "near"])


def test_ties_give_a_straight_line(drawn: list[Figure], tmp_path: Path) -> None:
    roc_figure.roc_curves(
        {"same": torch.ones(5)}, {"set": {"same": torch.ones(9)}}, tmp_path / "roc"
    )
    (figure,) = drawn
    points_n2 = figure.axes[0].lines[1].get_xydata()
    assert np.array_equal(points_n2, [[0, 0], [1, 1]])  # type: ignore[arg-type]
    assert legend(figure) == ["AUROC", "same 0.500"]
    assert values_in(figure.axes[0]) == []  # the name is in the legend


def test_line_styles_differ_in_colour_and_in_dashes() -> None:
    assert len(roc_figure.LINE_STYLES) == roc_figure.BEST
    for values in zip(*roc_figure.LINE_STYLES, strict=True):
        assert len(set(values)) == roc_figure.BEST


# The heat map


def cells(figure: Figure) -> dict[tuple[str, str], tuple[str, str]]:
    """Return text and font weight of each cell, by row and column."""
    (axes,) = figure.axes
    rows, columns = (
        [label.get_text() for label in labels]
        for labels in (axes.get_yticklabels(), axes.get_xticklabels())
    )
    return {
        (rows[round(text.get_position()[1])], columns[round(text.get_position()[0])]): (
            text.get_text(),
            str(text.get_weight()),
        )
        for text in axes.texts
    }


def test_heatmap_shows_every_value_the_mean_and_the_best(
    drawn: list[Figure], tmp_path: Path
) -> None:
    auroc_dS = torch.tensor([[0.5, 0.9], [0.99981, 0.7], [0.9999, 0.2]])
    detection_figure.detection_heatmap(
        auroc_dS, ["msp", "knn", "random"], ["noise", "svhn"], tmp_path / "table", "", ["random"]
    )
    (figure,) = drawn
    assert cells(figure) == {
        ("knn", "noise"): ("1.000", "bold"),  # equal after rounding
        ("knn", "svhn"): ("0.700", "normal"),
        ("knn", "mean"): ("0.850", "bold"),
        ("msp", "noise"): ("0.500", "normal"),
        ("msp", "svhn"): ("0.900", "bold"),
        ("msp", "mean"): ("0.700", "normal"),
        ("random*", "noise"): ("1.000", "bold"),
        ("random*", "svhn"): ("0.200", "normal"),
        ("random*", "mean"): ("0.600", "normal"),
    }
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "knn",
        "msp",
        "random*",
    ]
    assert axes.get_xlabel().split("\n")[-1] == "* baseline"
    detection_figure.detection_heatmap(
        auroc_dS, ["msp", "knn", "random"], ["noise", "svhn"], tmp_path / "table"
    )
    assert "baseline" not in drawn[1].axes[0].get_xlabel()


def test_heatmap_is_red_below_chance_and_light_enough_for_text(
    drawn: list[Figure], tmp_path: Path
) -> None:
    detection_figure.detection_heatmap(
        torch.tensor([[0.0, 1.0]]), ["msp"], ["noise", "svhn"], tmp_path / "table"
    )
    image = drawn[0].axes[0].images[0]
    low, high, chance = (
        np.array(image.to_rgba(np.array([value]))[0][:3]) for value in (0.0, 1.0, 0.5)
    )  # type: ignore[call-overload]
    assert low[0] > low[2]
    assert high[2] > high[0]
    assert np.ptp(chance) < 0.02
    assert min((0.2126, 0.7152, 0.0722) @ colour for colour in (low, high)) > 0.45
