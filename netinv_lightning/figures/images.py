"""Grids of images, and the confusion matrix of a run.

Shape suffixes: R rows, K columns, C channels, H height, W width, N classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from netinv_lightning.data.raster import as_pictures
from netinv_lightning.figures.style import write_whole
from netinv_lightning.figures.titles import literal_text, short, with_first_of

LARGEST_GRID = 20  # rows
LARGEST_CONFUSION = 30  # classes; with more, names and numbers would overlap
GAP = 2  # pixels between images
WIDEST = 12  # inches of the images of a grid
NAME_LETTER = 0.09  # inches, mean width of a letter of a row's name
COLUMN_LETTER = 0.06  # the same of a column's name
SMALL = 64  # pixels; larger images are drawn in a larger size, and smoothed


def draw_images(
    axes: Axes, x_RKCHW: Tensor, row_names: Sequence[str], column_names: Sequence[str] = ()
) -> None:
    """Draw images on a white canvas without a frame; rows and columns may have names.

    Signals, tables and other numbers of channels are drawn as `data/raster.py` describes.
    """
    x_RKCHW = _pictures(x_RKCHW)
    R, K, _, H, W = x_RKCHW.shape
    canvas = np.ones((R * (H + GAP) - GAP, K * (W + GAP) - GAP, 3))
    for row in range(R):
        for column in range(K):
            image_HWC = x_RKCHW[row, column].permute(1, 2, 0).expand(H, W, 3).numpy()
            canvas[
                row * (H + GAP) : row * (H + GAP) + H, column * (W + GAP) : column * (W + GAP) + W
            ] = image_HWC
    axes.imshow(canvas, interpolation="nearest" if max(H, W) <= SMALL else "antialiased")
    axes.set_yticks([row * (H + GAP) + H / 2 for row in range(len(row_names))], list(row_names))
    axes.set_xticks(
        [column * (W + GAP) + W / 2 for column in range(len(column_names))], list(column_names)
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _pictures(x_RKCHW: Tensor) -> Tensor:
    """Return pictures [R, K, 1 or 3, H, W] of inputs [R, K, ...] in [0, 1], on the CPU."""
    pictures_XCHW = as_pictures(x_RKCHW.flatten(0, 1).float().cpu().clamp(0, 1))
    return pictures_XCHW.unflatten(0, x_RKCHW.shape[:2])


def names_width(row_names: Sequence[str]) -> float:
    """Return the width in inches that names of rows need beside a grid, with its margins."""
    return max(1.1, 0.42 + NAME_LETTER * max(map(len, row_names), default=0))


def names_height(column_names: Sequence[str]) -> float:
    """Return the height in inches that names of columns need below a grid."""
    longest = max(map(len, column_names), default=0)
    return 0.1 + COLUMN_LETTER * longest if longest else 0.0


@literal_text()
def image_grid(
    x_RKCHW: Tensor,
    row_names: Sequence[str],
    path: Path,
    title: str = "",
    column_names: Sequence[str] = (),
) -> Path:
    """Draw a grid of images with one class per row.

    Args:
        x_RKCHW: Images in [0, 1]: R rows, K columns. Only the first 20 rows are drawn; the title
            then contains the number of rows.
        row_names: One name per row.
        path: The PNG file.
        title: Title above the grid.
        column_names: One name per column; empty for none.
    """
    total = len(x_RKCHW)
    x_RKCHW = _pictures(x_RKCHW[:LARGEST_GRID])
    R, K, _, H, W = x_RKCHW.shape
    title = with_first_of(title, R, total, "rows")
    wide, high = max(1.0, W / H), max(1.0, H / W)
    inch = 0.42 if max(H, W) <= SMALL else min(1.0, WIDEST / (K * wide))
    across, down = K * inch * wide, R * inch * high
    names = [short(name) for name in row_names[:R]]
    figure = Figure(
        figsize=(across + names_width(names), down + 0.4 + names_height(column_names)),
        layout="constrained",
    )
    axes = figure.subplots()
    axes.set_anchor("E")  # width to spare is for the names at the left
    draw_images(axes, x_RKCHW, names, column_names)
    axes.tick_params("y", labelsize=9)
    axes.tick_params("x", labelsize=7, labelrotation=90)
    if title:
        axes.set_title(title, fontsize=9)
    return write_whole(figure, path, dpi=150)


@literal_text()
def confusion_matrix(
    confusion_NN: Tensor,
    class_names: Sequence[str],
    path: Path,
    chosen: Sequence[int] | None = None,
) -> Path:
    """Draw the confusion matrix of conditioning labels and predictions.

    A row sums to 1. If only some classes are shown, the last column has all other predictions.

    Args:
        confusion_NN: Counts; rows are conditioning labels, columns are predictions.
        class_names: N names.
        path: The PNG file.
        chosen: The classes to show; None for all.
    """
    confusion_NN = confusion_NN.double().cpu()
    share_NN = confusion_NN / confusion_NN.sum(dim=1, keepdim=True).clamp(min=1)
    accuracy = float(confusion_NN.diagonal().sum() / confusion_NN.sum())
    names, predicted = list(class_names), list(class_names)
    if chosen is not None and len(chosen) < len(share_NN):
        rows = share_NN[list(chosen)]
        share_NN = rows[:, list(chosen)]
        names = [class_names[label] for label in chosen]
        predicted = [*names, "other"]
        rest_N1 = (rows.sum(dim=1) - share_NN.sum(dim=1)).clamp(min=0)[:, None]
        share_NN = torch.cat([share_NN, rest_N1], dim=1)
    N = len(share_NN)
    side = min(2.0 + 0.4 * N, 12.0)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share_NN.numpy(), vmin=0, vmax=1, cmap="Blues")
    axes.set(
        xlabel="predicted", ylabel="conditioned on", title=f"inversion accuracy {accuracy:.4f}"
    )
    if N <= LARGEST_CONFUSION:
        axes.set_xticks(range(len(predicted)), predicted, rotation=90)
        axes.set_yticks(range(N), names)
        for row, column in share_NN.ge(0.005).nonzero().tolist():
            share = float(share_NN[row, column])
            axes.text(
                column,
                row,
                f"{share:.2f}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if share > 0.5 else "black",
            )
    return write_whole(figure, path, dpi=120)
