"""Figures of reconstructions beside real images, and of the AUCs of an audit.

Shape suffixes: R rows, K columns, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.style
import torch
from matplotlib.figure import Figure
from torch import Tensor

from netinv_lightning.figures.images import draw_images
from netinv_lightning.figures.style import DPI, NEUTRAL, PALETTE, PAPER, TWO_COLUMNS, write_whole
from netinv_lightning.figures.titles import literal_text
from netinv_lightning.privacy.comparison import Pair
from netinv_lightning.privacy.exposure import Exposure

ROWS = ("reconstruction", "nearest\ntraining image", "nearest\nheld-out image")
MOST_COLUMNS = 10
MOST_EXPOSED = 20
BAND_INCHES = {2: 1.9, 3: 2.55}
"""Height of a band of columns by its number of rows."""


@literal_text()
def best_pairs_figure(
    pairs: Sequence[Pair], class_names: Sequence[str], path: Path, title: str
) -> Path:
    """Draw columns of reconstruction, nearest training image and nearest held-out image.

    Args:
        pairs: The columns, best first.
        class_names: Names of the classes.
        path: Path of the PNG.
        title: Title of the figure.
    """
    x_RKCHW = torch.stack(
        [
            torch.stack([pair.reconstruction_CHW for pair in pairs]),
            torch.stack([pair.member_CHW for pair in pairs]),
            torch.stack([pair.held_out_CHW for pair in pairs]),
        ]
    )
    labels = [
        f"{class_names[pair.label]}\n{pair.similarity:.2f} | {pair.similarity_held_out:.2f}"
        for pair in pairs
    ]
    whole_title = (
        f"{title}\nabove each column: class, and correlation with the training image | with the "
        "held-out image"
    )
    return _bands_figure(x_RKCHW, ROWS, labels, path=path, title=whole_title)


@literal_text()
def exposed_figure(exposure: Exposure, class_names: Sequence[str], path: Path, title: str) -> Path:
    """Draw the most exposed training images, each with its nearest reconstruction.

    Args:
        exposure: Risk of each member, most exposed first.
        class_names: Names of the classes.
        path: Path of the PNG.
        title: Title of the figure.
    """
    K = MOST_EXPOSED
    x_RKCHW = torch.stack([exposure.image_mCHW[:K], exposure.reconstruction_mCHW[:K]])
    labels = [
        f"{class_names[label]} #{index}\n{correlation:.2f} | {100 * rate:.3g} %"
        for label, index, correlation, rate in zip(
            exposure.label_m[:K].tolist(),
            exposure.index_m[:K].tolist(),
            exposure.correlation_m[:K].tolist(),
            exposure.rate_m[:K].tolist(),
            strict=True,
        )
    ]
    whole_title = (
        f"{title}\nabove each column: class and position in the training set; correlation with "
        "the reconstruction |\nshare of the held-out images that are as similar to a "
        "reconstruction (near 0: evidence of a leak)"
    )
    rows = ("training image", "reconstruction")
    return _bands_figure(x_RKCHW, rows, labels, path=path, title=whole_title)


def _bands_figure(
    x_RKCHW: Tensor, row_names: Sequence[str], labels: Sequence[str], *, path: Path, title: str
) -> Path:
    """Draw columns of images, at most ten side by side.

    Args:
        x_RKCHW: Images in [0, 1].
        row_names: R names.
        labels: A label above each of the K columns.
        path: Path of the PNG.
        title: Title of the figure.
    """
    R, total = x_RKCHW.shape[:2]
    K = min(total, MOST_COLUMNS)
    starts = range(0, total, K)
    height = BAND_INCHES[R] * len(starts) + 0.45
    figure = Figure(figsize=(1.0 + 0.62 * K, height), layout="constrained")
    axes = figure.subplots(len(starts), 1, squeeze=False)[:, 0]
    for start, axis in zip(starts, axes, strict=True):
        band = slice(start, start + K)
        draw_images(axis, x_RKCHW[:, band], row_names, labels[band])
        axis.xaxis.tick_top()
        axis.tick_params("both", labelsize=7, length=0)
    figure.suptitle(title, fontsize=8)
    return write_whole(figure, path, dpi=150)


def audit_figure(
    rows: Mapping[str, tuple[float, tuple[float, float]]],
    attacks: Sequence[str],
    path: Path,
    title: str,
) -> Path:
    """Draw the AUC of each attack and control with its interval, and a line at 0.5 (no leak).

    Args:
        rows: AUC and its confidence interval, by name.
        attacks: Names of the attacks; the others are controls, drawn as hollow circles.
        path: Path of the PNG.
        title: Title of the figure.
    """
    with matplotlib.style.context(PAPER):
        figure = Figure(figsize=(TWO_COLUMNS * 0.75, 1.05 + 0.24 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for row, (name, (auc, (low, high))) in enumerate(rows.items()):
            colour, filled = (PALETTE[0], PALETTE[0]) if name in attacks else (NEUTRAL, "white")
            axes.plot([low, high], [row, row], color=colour, linewidth=1.2)
            axes.plot([auc], [row], marker="o", markersize=5, color=colour, markerfacecolor=filled)
        axes.axvline(0.5, color=NEUTRAL, linewidth=0.6, linestyle="--")
        axes.set_yticks(range(len(rows)), list(rows))
        axes.invert_yaxis()
        axes.set_xlabel(
            "probability that a training image is more similar than a held-out image\n"
            "(AUC and 95 % interval; 0.5: no leak)"
        )
        axes.set_title(title)
        axes.spines[["top", "right"]].set_visible(False)
        return write_whole(figure, path, dpi=DPI)
