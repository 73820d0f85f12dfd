"""ROC curves of detectors.

Shape suffixes: n in-distribution images, m images of an OOD data set, d detectors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.metrics import auc, roc_curve
from torch import Tensor

from netinv_lightning.figures.legends import legend_below
from netinv_lightning.figures.style import (
    NEUTRAL,
    ONE_COLUMN,
    OTHERS_COLOUR,
    PALETTE,
    SMALL_POINTS,
    TWO_COLUMNS,
    paper_style,
    save,
)
from netinv_lightning.figures.titles import short, title_above, wrapped

Dashes = Literal["-"] | tuple[float, Sequence[float]]
"""Line style of matplotlib: solid, or the offset and the on-off lengths of a dash pattern."""

BEST = 5
"""Number of detectors with a line style of their own; more cannot be distinguished in a panel."""
LINE_STYLES: tuple[tuple[str, Dashes], ...] = (
    (PALETTE[0], "-"),
    (PALETTE[1], (0, (5, 1))),
    (PALETTE[2], (0, (4, 1, 1, 1))),
    (PALETTE[3], (0, (1, 1))),
    (PALETTE[5], (0, (2, 1))),
)
"""Colours and dashes of the best detectors: dark enough for thin lines, and distinct when printed
in grey."""
MOST_COLUMNS = 4

Curve = tuple[np.ndarray, np.ndarray]
"""False and true positive rates."""


def roc_curves(
    inside_dn: Mapping[str, Tensor],
    outside: Mapping[str, Mapping[str, Tensor]],
    path: Path,
    title: str = "",
) -> Path:
    """Draw the ROC curve of each detector, one panel per OOD data set.

    The detectors with the best mean AUROC have a colour, and their AUROC is printed in each panel;
    the others are thin grey lines. The legend gives the mean AUROC of all detectors.

    Args:
        inside_dn: Scores [n] of in-distribution images by detector, higher = more
            out-of-distribution.
        outside: For each OOD data set, the scores [m] of its images by detector.
        path: Output path without suffix.
        title: Title of the figure.

    Returns:
        The path of the PNG; a PDF is written beside it.
    """
    curves = {
        (d, s): _roc(inside_dn[d], scores[d]) for s, scores in outside.items() for d in inside_dn
    }
    auroc = {pair: float(auc(*curve)) for pair, curve in curves.items()}
    mean = {d: sum(auroc[d, s] for s in outside) / len(outside) for d in inside_dn}
    ranked = sorted(mean, key=lambda d: -mean[d])
    columns = math.ceil(len(outside) / math.ceil(len(outside) / MOST_COLUMNS))
    rows = math.ceil(len(outside) / columns)
    width = ONE_COLUMN if columns <= 2 else TWO_COLUMNS
    with paper_style():
        figure = Figure(
            figsize=(width, rows * (0.9 * width / columns + 0.2) + 0.2), layout="constrained"
        )
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        panels = grid.ravel().tolist()
        for axes in panels[len(outside) :]:
            axes.remove()
        for i, (axes, s) in enumerate(zip(panels, outside, strict=False)):
            _draw_panel(axes, [curves[d, s] for d in ranked])
            if len(outside) > 1:
                _draw_values(axes, [auroc[d, s] for d in ranked[:BEST]])
            axes.set_title(short(s), fontsize=SMALL_POINTS)
            axes.tick_params(labelbottom=i + columns >= len(outside))
            if i + columns >= len(outside):
                axes.set_xlabel("false positive rate")
            if i % columns == 0:
                axes.set_ylabel("true positive rate")
        title_above(figure, title)
        metric = "AUROC" if len(outside) == 1 else "mean AUROC"
        legend_below(figure, *_legend_groups(ranked, mean, metric, width - 0.5))
        return save(figure, path)


def _draw_panel(axes: Axes, ranked: Sequence[Curve]) -> None:
    """Draw the curves of one data set and the diagonal of a random detector."""
    axes.plot((0, 1), (0, 1), color=NEUTRAL, linestyle=":", linewidth=0.5)
    for curve in reversed(ranked[BEST:]):
        axes.plot(*curve, color=OTHERS_COLOUR, linewidth=0.5)
    for curve, (colour, dashes) in reversed(list(zip(ranked[:BEST], LINE_STYLES, strict=False))):
        axes.plot(*curve, color=colour, linestyle=dashes)
    axes.set(
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        aspect="equal",
        xticks=(0, 0.5, 1),
        yticks=(0, 0.5, 1),
    )
    axes.set_xticklabels(("0", "0.5", "1"))
    axes.set_yticklabels(("0", "0.5", "1"))


def _draw_values(axes: Axes, auroc: Sequence[float]) -> None:
    axes.legend(
        handles=[
            _line(f"{value:.3f}", *style) for value, style in zip(auroc, LINE_STYLES, strict=False)
        ],
        loc="lower right",
        frameon=True,
        framealpha=0.8,
        edgecolor="none",
        borderpad=0.1,
        labelspacing=0.15,
        handlelength=1.6,
        borderaxespad=0.2,
    )


def _legend_groups(
    ranked: Sequence[str], mean: Mapping[str, float], metric: str, inches: float
) -> list[list[Line2D]]:
    """Return the legend entries: heading, best detectors, other detectors."""
    best, others = ranked[:BEST], ranked[BEST:]
    # The non-breaking space keeps a name and its value on one line.
    labels = {d: f"{short(d)}\u00a0{mean[d]:.3f}" for d in ranked}
    heading = f"the best {len(best)} of {len(ranked)} by {metric}" if others else metric
    groups = [
        [_line(heading, "none", "-")],
        [_line(labels[d], *style) for d, style in zip(best, LINE_STYLES, strict=False)],
    ]
    if others:
        rest = f"the other {len(others)}: {', '.join(labels[d] for d in others)}"
        groups.append([_line(wrapped(rest, inches), OTHERS_COLOUR, "-", 0.5)])
    return groups


def _roc(inside_n: Tensor, outside_m: Tensor) -> Curve:
    """Return the ROC curve; it is a straight line between tied scores, so that ties count half."""
    false_positive, true_positive, _ = roc_curve(
        np.arange(len(inside_n) + len(outside_m)) >= len(inside_n),
        torch.cat([inside_n, outside_m]).numpy(),
    )
    return false_positive, true_positive


def _line(label: str, colour: str, dashes: Dashes, width: float = 1.2) -> Line2D:
    return Line2D([], [], color=colour, linestyle=dashes, linewidth=width, label=label)
