"""Histograms of the confidence of classifiers, and whether a threshold separates OOD images.

Shape suffixes: n in-distribution images, m images of an OOD data set, b bins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from netinv_lightning.figures.legends import legend_below, mark
from netinv_lightning.figures.style import (
    NEUTRAL,
    ONE_COLUMN,
    PALETTE,
    TWO_COLUMNS,
    paper_style,
    save,
)
from netinv_lightning.figures.titles import short, title_above
from netinv_lightning.metrics.detection import threshold_claim

BINS = 50
LEAST_SHARE = 1e-4
"""Share of the images at which bars begin."""
BAR_HEIGHT = 0.72
"""Height of a bar of all images, in rows."""
LEAST_HEIGHT = 0.04
"""Height of the smallest bar, in rows, so that a single image is visible."""
CLEAR, VIOLATED = PALETTE[0], PALETTE[3]


def confidence_histograms(
    panels: Mapping[str, tuple[Tensor, Mapping[str, Tensor]]],
    path: Path,
    title: str = "",
    misclassified: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> Path:
    """Draw the confidence of classifiers on in-distribution and OOD data.

    Claim of Suhail, Tang and Sethi 2024 (arXiv 2411.17777, section 5.2): the least confident
    in-distribution image is more confident than every misclassified OOD image, so that a threshold
    separates them. Each row is the histogram of one data set. Images that contradict the claim are
    red; their share is printed at the right. The title of a panel has the verdict for all its data
    sets; `classifiers.csv` has its numbers.

    Args:
        panels: By classifier: confidences [n] of in-distribution images and, by data set, [m] of
            OOD images. A confidence is the largest probability of an in-distribution class, in [0,
            1].
        path: Output path without suffix.
        title: Title of the figure.
        misclassified: By classifier and data set, which images [m] are classified as an
            in-distribution class, as in `threshold_claim`; all if missing. A classifier with a
            garbage class needs it.

    Returns:
        The path of the PNG; a PDF is written beside it.
    """
    sets = list(dict.fromkeys(name for _, outside in panels.values() for name in outside))
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    width = ONE_COLUMN if columns == 1 else TWO_COLUMNS
    with paper_style():
        figure = Figure(
            figsize=(width, rows * (0.9 + 0.24 * (len(sets) + 1))), layout="constrained"
        )
        grid = (
            figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
        )
        for axes in grid[len(panels) :]:
            axes.remove()
        for i, (axes, (name, (inside_n, outside))) in enumerate(
            zip(grid, panels.items(), strict=False)
        ):
            wrong = {s: torch.ones(len(out_m), dtype=torch.bool) for s, out_m in outside.items()}
            wrong |= (misclassified or {}).get(name, {})
            _draw_panel(axes, inside_n, outside, wrong, sets)
            claim = threshold_claim(
                inside_n, torch.cat(list(outside.values())), torch.cat([wrong[s] for s in outside])
            )
            share = _percent(claim.all_samples.violations_out)
            verdict, colour = (
                ("a clear threshold", CLEAR)
                if claim.all_samples.holds
                else (f"no clear threshold: {share} violate it", VIOLATED)
            )
            axes.set_title(f"{short(name)}\n{verdict}", color=colour, weight="bold")
            axes.tick_params(labelbottom=i + columns >= len(panels))
            if i + columns >= len(panels):
                axes.set_xlabel("confidence")
        title_above(figure, title)
        marks = [
            mark("least confident in-distribution image", marker="", line="--"),
            mark("most confident misclassified OOD image", marker="^"),
            mark("misclassified OOD images at or above the line", VIOLATED, "s"),
            mark("other OOD images", CLEAR, "s"),
        ]
        scale = mark("bars: share of a data set, log scale from 0.01 to 100\u00a0%", marker="")
        legend_below(figure, marks, [scale])
        return save(figure, path)


def _draw_panel(
    axes: Axes,
    inside_n: Tensor,
    outside: Mapping[str, Tensor],
    wrong: Mapping[str, Tensor],
    sets: list[str],
) -> None:
    """Draw the histograms of one classifier, and the shares of violations at the right."""
    in_n = inside_n.double().numpy()
    least = float(in_n.min())
    # An edge at the threshold: each bar lies on one side of it.
    edges = np.unique([*np.linspace(0, 1, BINS + 1), min(least, 1)])
    axes.axvline(least, color=NEUTRAL, linestyle="--", linewidth=0.8, zorder=3)
    base = len(sets)
    _draw_bars(axes, in_n, np.ones(len(in_n), dtype=bool), edges, base, NEUTRAL)
    labels = {base: "violations"}
    for s, out_m in outside.items():
        base = len(sets) - 1 - sets.index(s)
        wrong_m, confidence_m = wrong[s].bool().numpy(), out_m.double().numpy()
        violates_m = wrong_m & (confidence_m >= least)
        _draw_bars(axes, confidence_m, np.ones(len(confidence_m), dtype=bool), edges, base, CLEAR)
        _draw_bars(axes, confidence_m, violates_m, edges, base, VIOLATED)
        if wrong_m.any():
            colour = VIOLATED if violates_m.any() else CLEAR
            axes.plot(
                confidence_m[wrong_m].max(), base - 0.02, "^", color=colour, clip_on=False, zorder=4
            )
        labels[base] = _percent(violates_m.mean())
    axes.set(xlim=(0, 1), ylim=(-0.15, len(sets) + 0.85), xticks=(0, 0.5, 1))
    axes.set_xticklabels(("0", "0.5", "1"))
    axes.set_yticks(
        [base + 0.3 for base in range(len(sets) + 1)],
        [*map(short, reversed(sets)), "in-distribution"],
    )
    axes.tick_params("y", length=0)
    axes.spines["left"].set_visible(False)
    right = axes.secondary_yaxis("right")
    right.set_yticks([base + 0.3 for base in labels], list(labels.values()))
    right.tick_params(length=0)
    right.spines[:].set_visible(False)


def _draw_bars(
    axes: Axes,
    value_n: np.ndarray,
    drawn_n: np.ndarray,
    edges: np.ndarray,
    base: float,
    colour: str,
) -> None:
    """Draw a histogram of the values `drawn_n`; heights are logarithms of shares of all values."""
    count_b, _ = np.histogram(value_n[drawn_n].clip(0, 1), edges)
    share_b = (count_b / len(value_n)).clip(LEAST_SHARE)
    scaled_b = BAR_HEIGHT * (1 - np.log10(share_b) / np.log10(LEAST_SHARE))
    height_b = np.where(count_b > 0, scaled_b.clip(LEAST_HEIGHT), 0)
    axes.stairs(base + height_b, edges, baseline=base, fill=True, color=colour, linewidth=0)
    axes.plot((0, 1), (base, base), color="#DDDDDD", linewidth=0.5, zorder=0)


def _percent(share: float) -> str:
    return f"{100 * share:.3g}\u00a0%"  # a non-breaking space
