"""Pictures of inverted images beside the real ones that they are nearest to.

Shape suffixes: R rows, K columns, S images side by side, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from netinv_lightning.figures.images import LARGEST_GRID, draw_images
from netinv_lightning.figures.style import write_whole

SIDE_BY_SIDE = ("counterfeit", "nearest real")
INCH = 0.42  # of an image
APART = 0.6  # of an image, between pairs
LEAST_WIDTH = 4.0  # inches, of the title


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
        x_RSCHW = torch.stack([of_row[column] if column < len(of_row) else blank for of_row in shown])
        draw_images(axes, x_RSCHW, names if column == 0 else (), SIDE_BY_SIDE[:S])
        axes.tick_params("y", labelsize=9)
        axes.tick_params("x", labelsize=7, labelrotation=90)
    if title:
        figure.suptitle(title, fontsize=8)
    return write_whole(figure, path, dpi=150)
