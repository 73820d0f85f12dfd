"""Figures of reconstructions beside real images, and of the AUCs of an audit.

Shape suffixes: R rows, K columns, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.style
import torch
from matplotlib.figure import Figure

from netinv_lightning.figures.images import draw_images
from netinv_lightning.figures.style import DPI, NEUTRAL, PALETTE, PAPER, TWO_COLUMNS, write_whole
from netinv_lightning.figures.titles import literal_text
from netinv_lightning.privacy.comparison import Pair

ROWS = ("reconstruction", "nearest\ntraining image", "nearest\nheld-out image")
MOST_COLUMNS = 10


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
    K = min(len(pairs), MOST_COLUMNS)
    bands = [pairs[first : first + K] for first in range(0, len(pairs), K)]
    figure = Figure(figsize=(1.0 + 0.62 * K, (2.55 * len(bands)) + 0.45), layout="constrained")
    axes = figure.subplots(len(bands), 1, squeeze=False)[:, 0]
    for band, axis in zip(bands, axes, strict=True):
        x_RKCHW = torch.stack(
            [
                torch.stack([pair.reconstruction_CHW for pair in band]),
                torch.stack([pair.member_CHW for pair in band]),
                torch.stack([pair.held_out_CHW for pair in band]),
            ]
        )
        labels = [
            f"{class_names[pair.label]}\n{pair.similarity:.2f} | {pair.similarity_held_out:.2f}"
            for pair in band
        ]
        draw_images(axis, x_RKCHW, ROWS, labels)
        axis.xaxis.tick_top()
        axis.tick_params("both", labelsize=7, length=0)
    figure.suptitle(
        f"{title}\nabove each column: class, and correlation with the training image | with the "
        "held-out image",
        fontsize=8,
    )
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
