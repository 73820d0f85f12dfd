"""Figures of counterfeits, of the training images of a student, and of fine-tuned classifiers.

Shape suffixes: n images, R rows, K columns, S images side by side, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import matplotlib.style
import torch
from matplotlib.figure import Figure
from torch import Tensor

from netinv_lightning.figures.images import (
    LARGEST_GRID,
    draw_images,
    image_grid,
    names_width,
)
from netinv_lightning.figures.style import (
    DPI,
    NEUTRAL,
    PALETTE,
    PAPER,
    SMALL_POINTS,
    TEXT_POINTS,
    TWO_COLUMNS,
    write_whole,
)
from netinv_lightning.figures.titles import literal_text, short, title_above

SIDE_BY_SIDE = ("counter-\nfeit", "nearest\nreal")
"""Headings of the images of a pair; a line is as wide as an image."""
IMAGE_INCHES = 0.42
PAIR_GAP = 0.6
"""Space between pairs, as a share of an image."""
LEAST_WIDTH = 4.0
"""Least width, in inches, so that the title has few lines."""
IMAGES_PER_CLASS = 12


@literal_text()
def counterfeit_grid(pairs: Mapping[str, Tensor], path: Path, title: str = "") -> Path:
    """Draw one row of counterfeits per class, each with its nearest real image if there is one.

    Args:
        pairs: Images [K, S, C, H, W] in [0, 1] by name of the row, with S = 1 or 2; K may differ
            and be 0. Only the first 20 rows are drawn.
        path: Path of the PNG.
        title: Title of the figure.
    """
    rows = list(pairs)[:LARGEST_GRID]
    names = [short(name) for name in rows]
    shown = [pairs[name] for name in rows]
    K, S = max(len(row) for row in shown), shown[0].shape[1]
    blank = torch.ones(shown[0].shape[1:])
    width, height = (K * S + (K - 1) * PAIR_GAP) * IMAGE_INCHES, len(names) * IMAGE_INCHES
    figure = Figure(
        figsize=(max(width + names_width(names), LEAST_WIDTH), height + 0.7), layout="constrained"
    )
    for column, axes in enumerate(figure.subplots(1, K, squeeze=False)[0]):
        x_RSCHW = torch.stack([row[column] if column < len(row) else blank for row in shown])
        draw_images(axes, x_RSCHW, names if column == 0 else (), SIDE_BY_SIDE[:S])
        axes.tick_params("y", labelsize=9)
        axes.tick_params("x", labelsize=SMALL_POINTS, labeltop=True, labelbottom=False)
    with matplotlib.rc_context({"figure.titlesize": TEXT_POINTS}):
        title_above(figure, title)
    return write_whole(figure, path, dpi=DPI)


def student_images_figure(
    images_nCHW: Tensor,
    predicted_n: Tensor,
    class_names: Sequence[str],
    path: Path,
    title: str = "",
) -> Path:
    """Draw the training images of a student, one row per class that the teacher predicts.

    The images of a row are evenly spaced in the order in which they were generated.

    Args:
        images_nCHW: Images in [0, 1], oldest first.
        predicted_n: Class that the teacher predicts for each.
        class_names: N names. The row of a class without images is empty and named "(none)".
        path: Path of the PNG.
        title: Title of the figure.
    """
    rows, names = [], []
    for label, name in enumerate(class_names):
        of_class_KCHW = images_nCHW[predicted_n == label]
        K = len(of_class_KCHW)
        chosen = torch.linspace(0, K - 1, min(K, IMAGES_PER_CLASS)).round().long()
        blank = images_nCHW.new_ones(IMAGES_PER_CLASS - len(chosen), *images_nCHW.shape[1:])
        rows.append(torch.cat([of_class_KCHW[chosen], blank]))
        names.append(name if len(chosen) else f"{name} (none)")
    return image_grid(torch.stack(rows), names, path, title)


def classifier_metrics_figure(
    rows: Mapping[str, Mapping[str, float]], path: Path, title: str = ""
) -> Path:
    """Draw one panel per metric and one row per classifier; a line marks the first value.

    Args:
        rows: Metrics by name of the classifier; all have the same metrics.
        path: Path of the PNG.
        title: Title of the figure.
    """
    names, metrics = list(rows), list(next(iter(rows.values())))
    with matplotlib.style.context(PAPER):
        figure = Figure(figsize=(TWO_COLUMNS, 1.0 + 0.26 * len(names)), layout="constrained")
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for metric, axes in zip(metrics, panels, strict=True):
            values = [rows[name][metric] for name in names]
            axes.axvline(values[0], color=NEUTRAL, linewidth=0.6, linestyle="--")
            axes.plot(
                values, range(len(names)), linestyle="", marker="o", markersize=5, color=PALETTE[0]
            )
            margin = 0.25 * max(max(values) - min(values), 0.01)
            axes.set_xlim(min(values) - margin, max(values) + margin)
            for row, value in enumerate(values):
                axes.annotate(
                    f"{value:.3f}",
                    (value, row),
                    (0, 5),
                    textcoords="offset points",
                    ha="center",
                    fontsize=6,
                )
            axes.set_xlabel(metric)
            axes.locator_params("x", nbins=3)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.5, -0.7)
        figure.suptitle(title)
        return write_whole(figure, path, dpi=DPI)
