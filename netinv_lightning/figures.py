"""Pictures of a run. Each function draws one figure and writes it whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from torch import Tensor

matplotlib.use("Agg")
from matplotlib import pyplot as plt

LARGEST_GRID = 20  # rows; more are unreadable
LARGEST_CONFUSION = 30  # classes; of more, names and numbers would lie on each other


def image_grid(x_RKCHW: Tensor, row_names: Sequence[str], path: Path, title: str = "", column_names: Sequence[str] = ()) -> Path:
    """Draws images in rows of one class each (A8-2).

    Args:
        x_RKCHW: Images in [0, 1]: R rows, K columns. Of more than 20 rows the first 20 are drawn, and the title says so.
        row_names: A name each row.
        path: Where the PNG goes.
        title: Above the grid.
        column_names: A name each column, or none.
    """
    total = len(x_RKCHW)
    x_RKCHW = x_RKCHW[:LARGEST_GRID].float().cpu().clamp(0, 1)
    R, K, _, H, W = x_RKCHW.shape
    if total > R:
        title = f"{title} (first {R} of {total} classes)".strip()
    gap = 2
    canvas = np.ones((R * (H + gap) - gap, K * (W + gap) - gap, 3))
    for row in range(R):
        for column in range(K):
            image_HWC = x_RKCHW[row, column].permute(1, 2, 0).expand(H, W, 3).numpy()
            canvas[row * (H + gap) : row * (H + gap) + H, column * (W + gap) : column * (W + gap) + W] = image_HWC
    inch = 0.42
    figure, axes = plt.subplots(figsize=(K * inch + 1.1, R * inch + (1.0 if column_names else 0.4)), layout="constrained")
    axes.imshow(canvas, interpolation="nearest")
    axes.set_yticks([row * (H + gap) + H / 2 for row in range(R)], list(row_names[:R]), fontsize=9)
    axes.set_xticks([column * (W + gap) + W / 2 for column in range(len(column_names))], list(column_names), fontsize=7, rotation=90)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if title:
        axes.set_title(title, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def confusion_matrix(confusion_NN: Tensor, class_names: Sequence[str], path: Path) -> Path:
    """Draws how often images of one conditioning label were taken for each class.

    Args:
        confusion_NN: Counts; a row is the conditioning label, a column the predicted one.
        class_names: N names.
        path: Where the PNG goes.
    """
    confusion_NN = confusion_NN.double().cpu()
    share_NN = confusion_NN / confusion_NN.sum(dim=1, keepdim=True).clamp(min=1)
    accuracy = float(confusion_NN.diagonal().sum() / confusion_NN.sum())
    N = len(share_NN)
    side = min(2.0 + 0.4 * N, 12.0)
    figure, axes = plt.subplots(figsize=(side, side), layout="constrained")
    axes.imshow(share_NN.numpy(), vmin=0, vmax=1, cmap="Blues")
    axes.set(xlabel="predicted", ylabel="conditioned on", title=f"inversion accuracy {accuracy:.4f}")
    if N <= LARGEST_CONFUSION:
        axes.set_xticks(range(N), class_names, rotation=90)
        axes.set_yticks(range(N), class_names)
        for row, column in share_NN.ge(0.005).nonzero().tolist():
            share = float(share_NN[row, column])
            axes.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=7, color="white" if share > 0.5 else "black")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
