"""Pictures of reconstructions beside the real images that they are compared with.

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
from netinv_lightning.figures.style import (
    DPI,
    NEUTRAL,
    PALETTE,
    PAPER,
    TWO_COLUMNS,
    literal_text,
    write_whole,
)

ROWS = ("reconstruction", "nearest\ntraining image", "nearest\nheld-out image")


@literal_text()
def best_pairs_figure(
    triples: Sequence[tuple[Tensor, Tensor, Tensor]],
    similarities: Sequence[tuple[float, float]],
    labels: Sequence[str],
    path: Path,
    title: str,
) -> Path:
    """Draws columns of reconstruction, nearest training image and nearest held-out image, best first.

    Args:
        triples: The three images [C, H, W] of each column, in [0, 1].
        similarities: Of the reconstruction with each of the two real images.
        labels: The class of each column.
        path: Where the PNG goes.
        title: Above the picture.
    """
    K = min(len(triples), 10)  # as many columns as stay readable
    bands = [range(first, min(first + K, len(triples))) for first in range(0, len(triples), K)]
    figure = Figure(figsize=(1.0 + 0.62 * K, (2.55 * len(bands)) + 0.45), layout="constrained")
    axes = figure.subplots(len(bands), 1, squeeze=False)[:, 0]
    for band, axis in zip(bands, axes, strict=True):
        x_RKCHW = torch.stack(
            [torch.stack([triples[column][row] for column in band]) for row in range(len(ROWS))]
        )
        told = [
            f"{labels[column]}\n{similarities[column][0]:.2f} | {similarities[column][1]:.2f}"
            for column in band
        ]
        draw_images(axis, x_RKCHW, ROWS, told)
        axis.xaxis.tick_top()
        axis.tick_params("both", labelsize=7, length=0)
    figure.suptitle(
        f"{title}\nabove each column: class, correlation with the training image | with the held-out image",
        fontsize=8,
    )
    return write_whole(figure, path, dpi=150)


def audit_figure(
    rows: Mapping[str, tuple[float, tuple[float, float]]],
    attacks: Sequence[str],
    path: Path,
    title: str,
) -> Path:
    """Draws each AUC with its interval, attacks above controls, around the line on which nothing is given away.

    Args:
        rows: By name, an AUC and its confidence interval.
        attacks: Which of them are attacks; the others are controls, drawn hollow.
        path: Where the PNG goes.
        title: Above the picture.
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
            "chance that a training image is nearer than a held-out one\n(AUC and 95 % interval; 0.5 gives nothing away)"
        )
        axes.set_title(title)
        axes.spines[["top", "right"]].set_visible(False)
        return write_whole(figure, path, dpi=DPI)
