"""Figures of the units of a sparse autoencoder: when they are active, and for which images.

Shape suffixes: G groups of samples, M units, U shown units, K images each, C channels, H height, W
width, N classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from torch import Tensor

from netinv_lightning.figures.images import LARGEST_GRID, draw_images
from netinv_lightning.figures.legends import legend_below, mark
from netinv_lightning.figures.style import (
    MARKERS,
    ONE_COLUMN,
    PALETTE,
    SMALL_POINTS,
    TWO_COLUMNS,
    paper_style,
    save,
)
from netinv_lightning.figures.titles import short, title_above, with_first_of
from netinv_lightning.interpretability.figures.charts import MAX_ROWS


def draw_unit_frequencies(
    frequency_GM: Tensor,
    group_names: Sequence[str],
    path: Path,
    title: str = "",
    order: tuple[str, str] = ("training", "inverted"),
) -> Path:
    """Draw how often each unit is active in each group of samples.

    Args:
        frequency_GM: Share of the samples of a group for which a unit is active, in [0, 1]. Units
            that are never active are left out, and the axis label gives the number of the others.
        group_names: G names, one per row, such as "training", "inverted", "generator 0".
        path: Output path without suffix.
        title: Title of the figure.
        order: Units are sorted by the frequency in the first of these groups minus that in the
            second.

    Returns:
        The path of the PNG; a PDF is written beside it.
    """
    active_M = (frequency_GM > 0).any(dim=0)
    active_GM = frequency_GM[:, active_M]
    first, second = (list(group_names).index(name) for name in order)
    sorted_GM = active_GM[:, (active_GM[second] - active_GM[first]).argsort(stable=True)]
    with paper_style():
        figure = Figure(figsize=(ONE_COLUMN, 0.8 + 0.22 * len(group_names)), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(
            sorted_GM.numpy(), vmin=0, cmap="viridis", aspect="auto", interpolation="nearest"
        )
        axes.set_yticks(range(len(group_names)), list(group_names))
        axes.tick_params("y", length=0)
        axes.set_xlabel(
            f"{int(active_M.sum())} of {len(active_M)} units are active;\n"
            f"sorted by {order[0]} minus {order[1]}"
        )
        bar = figure.colorbar(image, ax=axes, pad=0.02)
        bar.set_label("activation\nfrequency")
        bar.outline.set_visible(False)  # type: ignore[operator]
        title_above(figure, title)
        return save(figure, path)


def draw_unit_overlap(
    overlap_GN: Tensor,
    group_names: Sequence[str],
    control_N: Tensor,
    class_names: Sequence[str],
    path: Path,
    title: str = "",
) -> Path:
    """Draw the overlap of the units that are active for a class in one group and in others.

    Args:
        overlap_GN: Jaccard index of the active units, in [0, 1]; NaN for a class without samples.
            If there are more than 40 classes, the first 40 are drawn, and the title notes it.
        group_names: G names, such as "inverted" and "generator 0".
        control_N: Jaccard index of two halves of one group: the effect of sampling alone.
        class_names: N names, one per row.
        path: Output path without suffix.
        title: Title of the figure.

    Returns:
        The path of the PNG; a PDF is written beside it.
    """
    N = min(len(control_N), MAX_ROWS)
    title = with_first_of(title, N, len(control_N), "classes")
    with paper_style():
        figure = Figure(figsize=(ONE_COLUMN, 0.7 + 0.17 * N), layout="constrained")
        axes = figure.subplots()
        axes.hlines(range(N), 0, 1, color="#DDDDDD", linewidth=0.5)
        axes.plot(
            control_N[:N].tolist(), range(N), "|", color="black", markersize=8, markeredgewidth=1.2
        )
        marks: list[Artist] = []
        for i, name in enumerate(group_names):
            colour, marker = PALETTE[i % 10], MARKERS[i % 10]
            axes.plot(overlap_GN[i, :N].tolist(), range(N), marker, color=colour, clip_on=False)
            marks.append(mark(name, colour, marker))
        control = mark("control: two halves", "black", "|")
        axes.set_yticks(range(N), [short(name) for name in class_names[:N]])
        axes.set(xlabel="Jaccard overlap", xlim=(0, 1), ylim=(N - 0.5, -0.5))
        axes.tick_params("y", length=0)
        title_above(figure, title)
        legend_below(figure, marks, [control])
        return save(figure, path)


def draw_unit_images(
    inverted_UKCHW: Tensor,
    units: Sequence[int],
    selectivity: Sequence[float],
    preferred: Sequence[str],
    path: Path,
    title: str = "",
    real_UKCHW: Tensor | None = None,
) -> Path:
    """Draw the images that activate each unit most: real ones left, inverted ones right.

    Args:
        inverted_UKCHW: Inverted images in [0, 1], largest activation first. If there are more than
            20 units, the first 20 are drawn, and the title notes it.
        units: Indices of U units, one per row.
        selectivity: Selectivity of each unit, in [0, 1].
        preferred: Name of the preferred class of each unit.
        path: Output path without suffix.
        title: Title of the figure.
        real_UKCHW: Real images, likewise, or None.

    Returns:
        The path of the PNG; a PDF is written beside it.
    """
    U = min(len(units), LARGEST_GRID)
    title = with_first_of(title, U, len(units), "units")
    labels = [f"{units[u]}: {short(preferred[u])} ({selectivity[u]:.2f})" for u in range(U)]
    parts = {"inverted images": inverted_UKCHW[:U]}
    if real_UKCHW is not None:
        parts = {"real images": real_UKCHW[:U], **parts}
    with paper_style():
        width = TWO_COLUMNS if len(parts) == 2 else ONE_COLUMN
        columns = [part.shape[1] for part in parts.values()]
        tall = inverted_UKCHW.shape[3] / inverted_UKCHW.shape[4]
        side = min((width - 1.6) / sum(columns), 0.5)
        figure = Figure(figsize=(width, 0.55 + side * tall * U), layout="compressed")
        axes_of_parts = figure.subplots(1, len(parts), width_ratios=columns, squeeze=False)[0]
        for axes, (name, x_UKCHW) in zip(axes_of_parts, parts.items(), strict=True):
            draw_images(axes, x_UKCHW, labels if axes is axes_of_parts[0] else ())
            axes.set_title(name)
        figure.supxlabel(
            "row labels: unit: preferred class (selectivity), both from inverted samples",
            fontsize=SMALL_POINTS,
        )
        title_above(figure, title)
        return save(figure, path)
