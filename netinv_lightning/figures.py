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
