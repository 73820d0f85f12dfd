"""Figures of the units of a sparse autoencoder: when they fire, and for what (A8-11).

Shape suffixes: G groups of samples, M units, U units that are shown, K images each, C channels, H height, W width, N classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from torch import Tensor

from netinv_lightning.figures.images import LARGEST_GRID, draw_images
from netinv_lightning.figures.scores import LARGEST_TABLE
from netinv_lightning.figures.style import (
    MARKERS,
    ONE_COLUMN,
    PALETTE,
    SMALL_POINTS,
    TWO_COLUMNS,
    legend_below,
    mark,
    paper_style,
    save,
    short,
    title_above,
)


def unit_activations(
    frequency_GM: Tensor,
    group_names: Sequence[str],
    path: Path,
    title: str = "",
    order: tuple[str, str] = ("training", "inverted"),
) -> Path:
    """Draws how often each unit fires for each group of samples (A8-11).

    Args:
        frequency_GM: Share of the group's samples that a unit is active for, in [0, 1]. Units that never fire are left out,
            and the axis says how many are left.
        group_names: G names, each a row, such as "training", "inverted", "generator 0".
        path: Where to, without the ending.
        title: Above the figure.
        order: The units are sorted by the frequency for the first of these groups less that for the second.

    Returns:
        The path of the PNG; a PDF lies beside it.
    """
    fires_M = (frequency_GM > 0).any(dim=0)
    alive_GM = frequency_GM[:, fires_M]
    first, second = (list(group_names).index(name) for name in order)
    sorted_GM = alive_GM[:, (alive_GM[second] - alive_GM[first]).argsort(stable=True)]
    with paper_style():
        figure = Figure(figsize=(ONE_COLUMN, 0.8 + 0.22 * len(group_names)), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(
            sorted_GM.numpy(), vmin=0, cmap="viridis", aspect="auto", interpolation="nearest"
        )
        axes.set_yticks(range(len(group_names)), list(group_names))
        axes.tick_params("y", length=0)
        axes.set_xlabel(
            f"{int(fires_M.sum())} of {len(fires_M)} units fire;\nsorted by {order[0]} minus {order[1]}"
        )
        bar = figure.colorbar(image, ax=axes, pad=0.02)
        bar.set_label("firing\nfrequency")
        bar.outline.set_visible(False)  # type: ignore[operator]
        title_above(figure, title)
        return save(figure, path)


def class_overlap(
    overlap_GN: Tensor,
    group_names: Sequence[str],
    control_N: Tensor,
    class_names: Sequence[str],
    path: Path,
    title: str = "",
) -> Path:
    """Draws how alike the sets of units are that fire for one class in the training data and in other groups (A8-11).

    Args:
        overlap_GN: Jaccard index of the units that fire, in [0, 1]; NaN where a class has no samples. Of more than 40 classes
            the first 40 are drawn, and the title says so.
        group_names: G names, such as "inverted" and "generator 0".
        control_N: The same of two halves of one origin: what sampling alone leaves.
        class_names: N names, each a row.
        path: Where to, without the ending.
        title: Above the figure.

    Returns:
        The path of the PNG; a PDF lies beside it.
    """
    N = min(len(control_N), LARGEST_TABLE)
    if len(control_N) > N:
        title = f"{title} (first {N} of {len(control_N)} classes)".strip()
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


def unit_images(
    inverted_UKCHW: Tensor,
    units: Sequence[int],
    selectivity: Sequence[float],
    favourites: Sequence[str],
    path: Path,
    title: str = "",
    real_UKCHW: Tensor | None = None,
) -> Path:
    """Draws the images that excite each unit most: real ones at the left, inverted ones at the right (A8-11).

    Args:
        inverted_UKCHW: Inverted images in [0, 1], the most exciting first. Of more than 20 units the first 20 are drawn, and
            the title says so.
        units: U indices of units, each a row.
        selectivity: Of each unit, in [0, 1].
        favourites: Name of the class that each unit fires for most.
        path: Where to, without the ending.
        title: Above the figure.
        real_UKCHW: Real images, likewise, or None.

    Returns:
        The path of the PNG; a PDF lies beside it.
    """
    U = min(len(units), LARGEST_GRID)
    if len(units) > U:
        title = f"{title} (first {U} of {len(units)} units)".strip()
    labels = [f"{units[u]}: {short(favourites[u])} ({selectivity[u]:.2f})" for u in range(U)]
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
            "rows: unit: favourite class (selectivity), by inverted samples", fontsize=SMALL_POINTS
        )
        title_above(figure, title)
        return save(figure, path)
