"""Style of figures for papers: colours and markers of classes, printed sizes, files.

Shape suffixes: n samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import torch
from matplotlib.figure import Figure
from torch import Tensor

from netinv_lightning.figures.titles import short
from netinv_lightning.runs.file_writing import replacing

ONE_COLUMN = 3.5  # inches, as in the two-column styles of IEEE and ICML
TWO_COLUMNS = 7.16
DPI = 300
TEXT_POINTS = 8
SMALL_POINTS = 7
MOST_STYLES = 20  # classes with a style of their own
LARGEST_OF_MANY = 10  # with more classes, the largest that have a style of their own

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
"""Colours of ten classes, from the palettes of Okabe and Ito, Tol, and Petroff.

The smallest CIELAB distance of a pair is 24 with normal vision, 19 with deuteranopia, 21 with
protanopia and 16 with tritanopia (simulated by Machado et al. 2009). All pairs differ in lightness
by at least 5 of 100, so they also differ in greyscale."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "p", "*")
"""Markers of ten classes, in addition to the colours. All can also be drawn hollow."""

MARKER_AREAS = {"s": 0.85, "D": 0.75, "P": 1.2, "X": 1.2, "p": 1.1, "*": 1.8}
"""Relative areas at which all markers look equally large."""

OTHERS_COLOUR, OTHERS_MARKER = "#BBBBBB", "."
NEUTRAL = "#444444"  # lines and marks without a class

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
    "text.parse_math": False,  # dollar signs in class names are literal
    "pdf.fonttype": 42,  # embedded TrueType fonts; journals refuse Type 3
}


@dataclass(frozen=True)
class ClassStyle:
    """Style of one class in all figures of a run.

    Attributes:
        name: Name in the legend.
        labels: The classes with this style: one, or all "others".
        colour: Colour of markers and regions.
        marker: Marker in scatter plots.
    """

    name: str
    labels: tuple[int, ...]
    colour: str
    marker: str


@contextmanager
def paper_style() -> Iterator[None]:
    """Context with Matplotlib's defaults and the settings of this module.

    A user's matplotlibrc has no effect, so that figures look the same on all machines.
    """
    with matplotlib.style.context(["default", PAPER]):
        yield


def class_styles(label_n: Tensor, class_names: Sequence[str]) -> list[ClassStyle]:
    """Return the style of every class.

    Up to 10 classes have distinct colours and markers. With 11 to 20 classes, class c has the
    colour of class c - 10 and another marker. With more, the ten classes with the most samples
    have distinct styles and all others are grey points.

    Args:
        label_n: Classes of the drawn samples; used with more than 20 classes only.
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
        # No two classes share both colour and marker.
        ClassStyle(name, (label,), PALETTE[label % 10], MARKERS[(label + label // 10 * 5) % 10])
        for label, name in enumerate(names)
    ]


def style_of_class(styles: Sequence[ClassStyle]) -> Tensor:
    """Return the index of each class's style, [N]."""
    index_N = torch.empty(sum(len(style.labels) for style in styles), dtype=torch.long)
    for i, style in enumerate(styles):
        index_N[list(style.labels)] = i
    return index_N


def write_whole(figure: Figure, path: Path, **options: Any) -> Path:
    """Write one file atomically; after a failure the old file is unchanged.

    Args:
        figure: The figure.
        path: The file; its extension determines the format.
        options: Options of matplotlib's `savefig`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        figure.savefig(partial, format=path.suffix[1:], **options)
    return path


def save(figure: Figure, path_stem: Path) -> Path:
    """Write a figure as PNG with 300 dpi and as PDF with embedded fonts, each atomically.

    Args:
        figure: The figure in its printed size.
        path_stem: Path of the files, without extension.

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
