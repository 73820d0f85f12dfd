"""How figures for a paper look: colours and marks of the classes, sizes in print, legends, files.

Shape suffixes: n samples.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib.style
import torch
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from torch import Tensor

ONE_COLUMN = 3.5  # inches in print, as in the two-column styles of IEEE and ICML
TWO_COLUMNS = 7.16
DPI = 300
TEXT_POINTS = 8
SMALL_POINTS = 7
LETTER = 0.068  # inches, mean width of a letter of tick labels
LONGEST_NAME = 24  # characters; of a longer class name the rest is cut off
MOST_STYLES = 20  # classes with a look of their own
LARGEST_OF_MANY = 10  # of more classes, those with a look of their own

PALETTE = (
    "#0072B2",
    "#E76300",
    "#44AA99",
    "#BD1F01",
    "#66CCEE",
    "#882255",
    "#EECC66",
    "#661100",
    "#B9AC70",
    "#A96B59",
)
"""Colours of ten classes. Chosen from the palettes of Okabe and Ito, Tol and Petroff so that the smallest distance of a pair in
CIELAB is large to normal sight (24), with deuteranopia (19), protanopia (21) and tritanopia (16), as simulated by Machado et
al. 2009, and every pair differs in lightness by 5 or more of 100, which a print in grey keeps."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "p", "*")
"""Marks of ten classes: they repeat what the colour says. All are filled forms, so that each can be drawn hollow."""

MARKER_AREAS = {"s": 0.85, "D": 0.75, "P": 1.2, "X": 1.2, "p": 1.1, "*": 1.8}
"""Area of the square around a mark against the circle's, so that all look about as large."""

OTHERS_COLOUR, OTHERS_MARKER = "#BBBBBB", "."
NEUTRAL = "#444444"  # lines and marks that belong to no class

PAPER: dict[Any, Any] = {
    "font.size": TEXT_POINTS,
    "figure.titlesize": TEXT_POINTS,
    "axes.titlesize": TEXT_POINTS,
    "axes.labelsize": TEXT_POINTS,
    "xtick.labelsize": SMALL_POINTS,
    "ytick.labelsize": SMALL_POINTS,
    "legend.fontsize": SMALL_POINTS,
    "legend.frameon": False,
    "legend.handletextpad": 0.4,
    "legend.columnspacing": 1.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "figure.dpi": DPI,
    "text.parse_math": False,  # a dollar sign in a class name is a dollar sign
    "pdf.fonttype": 42,  # TrueType fonts, embedded: journals refuse Type 3
}


@dataclass(frozen=True)
class ClassStyle:
    """How one class is drawn, in every figure of a run.

    Attributes:
        name: As in the legend.
        labels: The classes that look like this: one, or all of "others".
        colour: Of its marks and regions.
        marker: Its mark in scatter plots.
    """

    name: str
    labels: tuple[int, ...]
    colour: str
    marker: str


@contextmanager
def paper_style() -> Iterator[None]:
    """Matplotlib's defaults and the sizes of this module while a figure is drawn; afterwards the caller's settings are back.

    What a user's own matplotlibrc says has no influence, so that a figure looks the same everywhere.
    """
    with matplotlib.style.context(["default", PAPER]):
        yield


@contextmanager
def literal_text() -> Iterator[None]:
    """Draw every text as it is, also as a decorator: a dollar sign in a class name starts no formula."""
    with matplotlib.rc_context({"text.parse_math": False}):
        yield


def class_styles(label_n: Tensor, class_names: Sequence[str]) -> list[ClassStyle]:
    """Colour and mark of every class.

    Up to 10 classes each have a colour and a mark of their own; of 11 to 20, class c has the colour of class c - 10 and another
    mark; of more, the ten with the most samples have a look of their own and all others are grey points.

    Args:
        label_n: Classes of what is drawn; it matters only for more than 20 classes.
        class_names: N names.
    """
    names = [short(name) for name in class_names]
    if len(names) > MOST_STYLES:
        count_N = torch.bincount(label_n, minlength=len(names))
        largest = sorted(count_N.argsort(descending=True, stable=True)[:LARGEST_OF_MANY].tolist())
        rest = tuple(label for label in range(len(names)) if label not in largest)
        others = ClassStyle(f"others ({len(rest)} classes)", rest, OTHERS_COLOUR, OTHERS_MARKER)
        own = [
            ClassStyle(names[label], (label,), PALETTE[i], MARKERS[i])
            for i, label in enumerate(largest)
        ]
        return [*own, others]
    return [
        ClassStyle(
            name, (label,), PALETTE[label % 10], MARKERS[(label + label // 10 * 5) % 10]
        )  # no two share both
        for label, name in enumerate(names)
    ]


def style_of_class(styles: Sequence[ClassStyle]) -> Tensor:
    """The index of each class's style, [N]."""
    index_N = torch.empty(sum(len(style.labels) for style in styles), dtype=torch.long)
    for i, style in enumerate(styles):
        index_N[list(style.labels)] = i
    return index_N


def short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def wrapped(text: str, inches: float) -> str:
    """Break the text into lines of at most this width."""
    return textwrap.fill(text, int(inches / LETTER), break_on_hyphens=False)


def mark(
    name: str,
    colour: str = NEUTRAL,
    marker: str = "o",
    hollow: bool = False,
    line: Literal["none", "-", "--"] = "none",
) -> Line2D:
    """An entry of a legend."""
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
    """A legend below all axes: groups of marks below each other, each in as many columns as fit the width.

    The figure grows by the height of the legend, and its layout leaves that height free.
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


def title_above(figure: Figure, title: str) -> None:
    """A title that is broken into lines where it is wider than the figure; the figure grows by its height."""
    lines = [" ".join(line.split()) for line in title.splitlines() if line.strip()]
    if not lines:
        return
    drawn, room, characters = (
        figure.suptitle("\n".join(lines)),
        0.96 * figure.bbox.width,
        max(map(len, lines)),
    )
    while (wide := drawn.get_window_extent().width) > room and characters > 1:
        characters = max(min(int(characters * room / wide), characters - 1), 1)
        drawn.set_text("\n".join(_even_lines(line, characters) for line in lines))
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + drawn.get_window_extent().height / figure.dpi)


def _even_lines(text: str, characters: int) -> str:
    """As few lines of at most so many characters as can be, about equally long."""
    lines = len(textwrap.wrap(text, characters))
    shortest = math.ceil((len(text) + 1) / lines) - 1  # a break takes the place of a blank
    return textwrap.fill(
        text,
        next(
            width
            for width in range(shortest, characters + 1)
            if len(textwrap.wrap(text, width)) == lines
        ),
    )


def write_whole(figure: Figure, path: Path, **options: Any) -> Path:
    """Writes one file; where that fails, what was there before stays.

    Args:
        figure: The figure.
        path: With the ending that tells the format.
        options: Of matplotlib's `savefig`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.partial")
    try:
        figure.savefig(temporary, format=path.suffix[1:], **options)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def save(figure: Figure, path_stem: Path) -> Path:
    """Writes a figure as PNG of 300 dpi and as PDF with its fonts embedded, each whole or not at all.

    Args:
        figure: The figure, its size being that in print.
        path_stem: Where to, without the ending.

    Returns:
        The path of the PNG.
    """
    with paper_style():
        write_whole(
            figure,
            path_stem.with_name(f"{path_stem.name}.pdf"),
            dpi=DPI,
            metadata={"CreationDate": None},
        )
        return write_whole(figure, path_stem.with_name(f"{path_stem.name}.png"), dpi=DPI)
