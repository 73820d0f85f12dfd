"""Legends below figures, and the marks in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from netinv_lightning.figures.style import NEUTRAL, ClassStyle


def mark(
    name: str,
    colour: str = NEUTRAL,
    marker: str = "o",
    hollow: bool = False,
    line: Literal["none", "-", "--"] = "none",
) -> Line2D:
    """Return an entry of a legend."""
    face = "none" if hollow else colour
    return Line2D(
        [],
        [],
        color=colour,
        marker=marker,
        linestyle=line,
        markerfacecolor=face,
        markeredgewidth=0.8,
        markersize=4.5,
        label=name,
    )


def class_marks(styles: Sequence[ClassStyle]) -> list[Artist]:
    return [mark(style.name, style.colour, style.marker) for style in styles]


def legend_below(figure: Figure, *groups: Sequence[Artist]) -> None:
    """Add a legend below all axes: one block per group, in as many columns as fit.

    The figure grows by the height of the legend.
    """
    legends = [_legend(figure, group) for group in groups]
    heights = [legend.get_window_extent().height / figure.dpi for legend in legends]
    width, height = figure.get_size_inches()
    total = height + sum(heights)
    figure.set_size_inches(width, total)
    below = sum(heights)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, below / total, 1, 1 - below / total))
    for legend, own in zip(legends, heights, strict=True):
        below -= own
        legend.set_bbox_to_anchor((0.5, below / total), transform=figure.transFigure)


def _legend(figure: Figure, marks: Sequence[Artist]) -> Legend:
    rows = 1
    while True:
        legend = figure.legend(
            handles=list(marks),
            loc="lower center",
            ncols=math.ceil(len(marks) / rows),
            borderaxespad=0,
        )
        excess = legend.get_window_extent().width / (0.98 * figure.bbox.width)
        if excess <= 1 or rows >= len(marks):
            return legend
        legend.remove()
        rows = math.ceil(excess) if rows == 1 else rows + 1
