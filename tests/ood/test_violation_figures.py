"""The figure of confidences: images above the threshold, and those in the garbage class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from netinv_lightning.figures.style import NEUTRAL
from netinv_lightning.metrics.detection import threshold_claim
from netinv_lightning.ood import confidence_figure
from tests.ood.conftest import legend


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
    assert axes.get_title() == "plain\nno clear threshold: 25\u00a0% violate it"
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
        "no clear threshold: 25\u00a0% violate it",
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
    assert plain.get_xlim() == garbage.get_xlim() == (0, 1)
    assert plain.get_ylim() == garbage.get_ylim()


def test_a_single_violation_among_many_images_is_visible(
    drawn: list[Figure], tmp_path: Path
) -> None:
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
    assert legend(drawn[0])[-1] == "bars: share of a data set, log scale from 0.01 to 100 %"


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
