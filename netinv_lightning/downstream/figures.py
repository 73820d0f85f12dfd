"""What inverted images are good for, in pictures: counterfeits beside real images, what a student is shown, what fine-tuning changes.

Shape suffixes: n images, R rows, K columns, S images side by side, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.style
import torch
from matplotlib.figure import Figure
from torch import Tensor

from netinv_lightning.figures.images import LARGEST_GRID, draw_images, image_grid
from netinv_lightning.figures.style import (
    DPI,
    NEUTRAL,
    PALETTE,
    PAPER,
    TWO_COLUMNS,
    literal_text,
    write_whole,
)

SIDE_BY_SIDE = ("counterfeit", "nearest real")
INCH = 0.42  # of an image
APART = 0.6  # of an image, between pairs
LEAST_WIDTH = 4.0  # inches, of the title
SHOWN = 12  # images a class that a student is shown


@literal_text()
def pairs_figure(pairs: Mapping[str, Tensor], path: Path, title: str = "") -> Path:
    """Draws rows of counterfeits, each with its nearest real image where that is given.

    Args:
        pairs: By the name of the row, images [K, S, C, H, W] in [0, 1], S being 1 or 2; K may differ, and be 0. Of more than 20 rows
            the first 20 are drawn.
        path: Where the PNG goes.
        title: Above the picture.
    """
    names = list(pairs)[:LARGEST_GRID]
    shown = [pairs[name] for name in names]
    K, S = max(len(of_row) for of_row in shown), shown[0].shape[1]
    blank = torch.ones(shown[0].shape[1:])
    width, height = K * S * INCH + (K - 1) * APART * INCH, len(names) * INCH
    figure = Figure(figsize=(max(width + 0.8, LEAST_WIDTH), height + 1.7), layout="constrained")
    for column, axes in enumerate(figure.subplots(1, K, squeeze=False)[0]):
        x_RSCHW = torch.stack(
            [of_row[column] if column < len(of_row) else blank for of_row in shown]
        )
        draw_images(axes, x_RSCHW, names if column == 0 else (), SIDE_BY_SIDE[:S])
        axes.tick_params("y", labelsize=9)
        axes.tick_params("x", labelsize=7, labelrotation=90)
    if title:
        figure.suptitle(title, fontsize=8)
    return write_whole(figure, path, dpi=150)


def taught_figure(
    images_nCHW: Tensor, answer_n: Tensor, class_names: Sequence[str], path: Path, title: str = ""
) -> Path:
    """Draws what a student is shown: a row a class, by the teacher's answer, of images that lie evenly apart in the order of their making.

    Args:
        images_nCHW: Images in [0, 1], the oldest first.
        answer_n: The class that the teacher takes each for.
        class_names: N names. A class that the teacher sees in no image has an empty row, which says so.
        path: Where the PNG goes.
        title: Above the picture.
    """
    rows, names = [], []
    for label, name in enumerate(class_names):
        of_class_KCHW = images_nCHW[answer_n == label]
        kept = (
            torch.linspace(0, len(of_class_KCHW) - 1, min(len(of_class_KCHW), SHOWN)).round().long()
        )
        blank = images_nCHW.new_ones(SHOWN - len(kept), *images_nCHW.shape[1:])
        rows.append(torch.cat([of_class_KCHW[kept], blank]))
        names.append(name if len(kept) else f"{name} (none)")
    return image_grid(torch.stack(rows), names, path, title)


def arms_figure(rows: Mapping[str, Mapping[str, float]], path: Path, title: str = "") -> Path:
    """Draws a panel a number and a row a classifier, with the first row's value as a line through all.

    Args:
        rows: By the classifier's name, its numbers by theirs; all have the same.
        path: Where the PNG goes.
        title: Above the picture.
    """
    names, numbers = list(rows), list(next(iter(rows.values())))
    with matplotlib.style.context(PAPER):
        figure = Figure(figsize=(TWO_COLUMNS, 1.0 + 0.26 * len(names)), layout="constrained")
        panels = figure.subplots(1, len(numbers), sharey=True, squeeze=False)[0]
        for number, axes in zip(numbers, panels, strict=True):
            values = [rows[name][number] for name in names]
            axes.axvline(values[0], color=NEUTRAL, linewidth=0.6, linestyle="--")
            axes.plot(
                values, range(len(names)), linestyle="", marker="o", markersize=5, color=PALETTE[0]
            )
            apart = max(max(values) - min(values), 0.01)
            axes.set_xlim(min(values) - 0.25 * apart, max(values) + 0.25 * apart)
            for row, value in enumerate(values):
                axes.annotate(
                    f"{value:.3f}",
                    (value, row),
                    (0, 5),
                    textcoords="offset points",
                    ha="center",
                    fontsize=6,
                )
            axes.set_xlabel(number)
            axes.locator_params("x", nbins=3)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.5, -0.7)
        figure.suptitle(title)
        return write_whole(figure, path, dpi=DPI)
