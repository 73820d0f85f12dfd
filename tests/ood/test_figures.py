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
from matplotlib.patches import StepPatch
from matplotlib.text import Text
from sklearn.metrics import roc_auc_score
from torch import Tensor

from netinv_lightning.figures.style import (
    NEUTRAL,
    ONE_COLUMN,
    OTHERS_COLOUR,
    SMALL_POINTS,
    TWO_COLUMNS,
    paper_style,
)
from netinv_lightning.metrics.detection import threshold_claim
from netinv_lightning.ood import confidence_figure, detection_figure, roc_figure

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


# Confidence threshold


def bars(axes: Axes) -> list[tuple[str, int, np.ndarray, np.ndarray]]:
    """Return colour, row, and left and right ends of the bars of each histogram."""
    found = []
    for patch in axes.patches:
        assert isinstance(patch, StepPatch)
        values, edges, baseline = patch.get_data()
        drawn = values > baseline
        found.append(
            (
                to_hex(patch.get_facecolor()).upper(),
                int(baseline),
                edges[:-1][drawn],
                edges[1:][drawn],
            )
        )  # type: ignore[arg-type, index]
    return found


def violations(axes: Axes) -> dict[str, str]:
    """Return the shares at the right, by row."""
    (right,) = axes.child_axes
    shares = {
        place: label.get_text()
        for place, label in zip(right.get_yticks(), right.get_yticklabels(), strict=True)
    }
    named = axes.figure.axes[0]  # only the first panel names the rows
    names = {
        place: label.get_text()
        for place, label in zip(named.get_yticks(), named.get_yticklabels(), strict=True)
    }
    return {names[place]: text.replace("\u00a0", " ") for place, text in shares.items()}


PLAIN = torch.tensor([0.9, 0.61, 0.95, 0.99])
"""The lowest confidence, 0.61, is inside a bin."""
OUTSIDE = {
    "letters": torch.tensor([0.3, 0.615, 0.71, 0.2]),
    "noise": torch.tensor([0.1, 0.605, 0.5, 0.55]),
}


def test_violations_are_red_and_counted(drawn: list[Figure], tmp_path: Path) -> None:
    confidence_figure.confidence_histograms({"plain": (PLAIN, OUTSIDE)}, tmp_path / "confidence")
    (figure,) = drawn
    (axes,) = figure.axes
    assert axes.get_title() == "plain\nno clear threshold"
    assert violations(axes) == {"in-distribution": "violations", "letters": "50 %", "noise": "0 %"}
    assert [(colour, row) for colour, row, left, _ in bars(axes) if len(left)] == [
        (NEUTRAL, 2),
        (confidence_figure.CLEAR, 1),
        (confidence_figure.VIOLATED, 1),
        (confidence_figure.CLEAR, 0),
    ]
    least = float(PLAIN.min())
    (red,) = [
        (left, right)
        for colour, _, left, right in bars(axes)
        if colour == confidence_figure.VIOLATED and len(left)
    ]
    assert red[0] == pytest.approx([least, 0.7])  # the threshold splits a bin
    assert red[1] == pytest.approx([0.62, 0.72])
    (line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert np.asarray(line.get_xdata()) == pytest.approx([least, least])
    marks = [line for line in axes.lines if line.get_marker() == "^"]
    points = [np.ravel(line.get_xydata()) for line in marks]  # type: ignore[arg-type]
    ends = {round(y): x for x, y in points}
    assert ends == pytest.approx({1: 0.71, 0: 0.605})
    assert legend(figure)[-1].endswith(
        "plain: 25 % of the OOD images are misclassified with at least the confidence of the least "
        "confident in-distribution image (0.610), up to 0.710. "
        "Without the most extreme 5 % of either side: 12.5 %."
    )
    assert (
        threshold_claim(PLAIN, torch.cat(list(OUTSIDE.values()))).but_5_percent.violations_out
        == 1 / 8
    )


def test_images_in_the_garbage_class_are_not_violations(
    drawn: list[Figure], tmp_path: Path
) -> None:
    """The panels share their rows, and each has its own verdict."""
    letters = {"garbage": {"letters": torch.tensor([True, False, False, True])}}
    nothing = {s: torch.zeros(4, dtype=torch.bool) for s in OUTSIDE}
    panels = {
        "plain": (PLAIN, OUTSIDE),
        "garbage": (PLAIN, OUTSIDE),
        "all": (PLAIN, {"noise": OUTSIDE["noise"]}),
    }
    confidence_figure.confidence_histograms(
        panels, tmp_path / "confidence", "", {**letters, "all": nothing}
    )
    (figure,) = drawn
    plain, garbage, all_garbage = figure.axes
    assert [axes.get_title().split("\n")[1] for axes in figure.axes] == [
        "no clear threshold",
        "a clear threshold",
        "a clear threshold",
    ]
    assert violations(plain)["letters"] == "50 %"
    assert violations(garbage) == {
        "in-distribution": "violations",
        "letters": "0 %",
        "noise": "0 %",
    }
    assert violations(all_garbage) == {"in-distribution": "violations", "noise": "0 %"}
    assert not any(
        len(left) for colour, _, left, _ in bars(garbage) if colour == confidence_figure.VIOLATED
    )
    assert [mark.get_marker() for mark in all_garbage.lines].count("^") == 0
    (words,) = legend(figure)[-1:]
    assert (
        "garbage: every misclassified OOD image (confidence up to 0.605) is less confident than"
        in words
    )
    assert words.endswith("all: no OOD image is classified as an in-distribution class.")
    assert plain.get_xlim() == garbage.get_xlim() == (0, 1)
    assert plain.get_ylim() == garbage.get_ylim()


def test_a_single_violation_among_many_images_is_visible(
    drawn: list[Figure], tmp_path: Path
) -> None:
    """Without the most extreme 5 % there is no violation."""
    out_n = torch.full((40_000,), 0.2)
    out_n[7] = 0.97
    confidence_figure.confidence_histograms(
        {"plain": (torch.full((500,), 0.95), {"noise": out_n})}, tmp_path / "confidence"
    )
    (axes,) = drawn[0].axes
    assert violations(axes)["noise"] == "0.0025 %"
    data = {
        to_hex(patch.get_facecolor()).upper(): patch.get_data()  # type: ignore[attr-defined]
        for patch in axes.patches
    }
    heights = {colour: max(values - baseline) for colour, (values, _, baseline) in data.items()}
    assert heights[confidence_figure.VIOLATED] == pytest.approx(confidence_figure.LEAST_HEIGHT)
    assert heights[confidence_figure.CLEAR] == pytest.approx(confidence_figure.BAR_HEIGHT, abs=1e-5)
    assert legend(drawn[0])[-1].endswith(
        "Without the most extreme 5 % of either side: a clear threshold."
    )


@pytest.mark.parametrize("inside", [1.0, 1.0 + 1e-6])
def test_confidence_of_one_is_in_the_last_bin(
    inside: float, drawn: list[Figure], tmp_path: Path
) -> None:
    confidence_figure.confidence_histograms(
        {"plain": (torch.full((5,), inside), {"noise": torch.ones(4)})}, tmp_path / "confidence"
    )
    (axes,) = drawn[0].axes
    assert violations(axes)["noise"] == ("100 %" if inside == 1 else "0 %")
    assert all(right == pytest.approx([1]) for _, _, left, right in bars(axes) if len(left))


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
