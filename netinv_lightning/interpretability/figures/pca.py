"""Figure of samples in the plane of the first two principal components.

Shape suffixes: n inverted and m real samples, 2 plane coordinates, K components.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from netinv_lightning.figures.legends import class_marks, legend_below
from netinv_lightning.figures.style import (
    NEUTRAL,
    ONE_COLUMN,
    SMALL_POINTS,
    class_styles,
    paper_style,
    save,
)
from netinv_lightning.figures.titles import title_above
from netinv_lightning.interpretability.figures.samples import draw_samples, label_components

MAX_POINTS = 1000
"""Largest number of samples drawn per set; more only cover each other."""
EXPLAINED = 0.9
"""Share of the variance for which the figure states the number of components."""


def draw_pca(
    z_n2: Tensor,
    label_n: Tensor,
    variance_K: Tensor,
    class_names: Sequence[str],
    path: Path,
    title: str = "",
    real: tuple[Tensor, Tensor] | None = None,
) -> Path:
    """Draw samples in the plane of two principal components, and the cumulative explained variance.

    Args:
        z_n2: Inverted samples in the plane. If there are more than 1,000, a random subset is drawn,
            and the legend notes it.
        label_n: Their classes.
        variance_K: Explained share of the variance of each component, largest first.
        class_names: N names.
        path: Output path without suffix.
        title: Title of the figure.
        real: Real samples in the same plane, and their classes; None without data.

    Returns:
        The path of the PNG; a PDF is written beside it.
    """
    with paper_style():
        styles = class_styles(label_n, class_names)
        figure = Figure(figsize=(ONE_COLUMN, 4.0), layout="constrained")
        plane, curve = figure.subplots(2, 1, height_ratios=[3.4, 1])
        below = [] if real is None else [draw_samples(plane, *real, styles, "real", MAX_POINTS)]
        inverted = draw_samples(plane, z_n2, label_n, styles, "inverted", MAX_POINTS)
        plane.set_aspect("equal", adjustable="datalim")
        label_components(plane, variance_K)
        _draw_cumulative(curve, variance_K)
        title_above(figure, title)
        legend_below(figure, class_marks(styles), [inverted, *below])
        return save(figure, path)


def _draw_cumulative(axes: Axes, variance_K: Tensor) -> None:
    cumulative_K, K = variance_K.double().cumsum(dim=0), len(variance_K)
    axes.plot(range(1, K + 1), (100 * cumulative_K).tolist(), color=NEUTRAL)
    enough = int((cumulative_K < EXPLAINED).sum()) + 1
    if enough <= K:
        axes.plot(enough, 100 * float(cumulative_K[enough - 1]), "o", color=NEUTRAL)
        note = f"{100 * EXPLAINED:.0f} % at {enough} of {K} components"
    else:
        note = f"{K} components: less than {100 * EXPLAINED:.0f} %"
    axes.text(0.98, 0.1, note, transform=axes.transAxes, ha="right", fontsize=SMALL_POINTS)
    axes.set_xscale("log")
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if k <= K]
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.minorticks_off()
    axes.set(xlabel="components", ylabel="variance (%)", ylim=(0, 105), yticks=[0, 50, 100])
