"""Heat map of the AUROC of detectors.

Shape suffixes: d detectors, S data sets.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from netinv_lightning.figures.style import ONE_COLUMN, SMALL_POINTS, TWO_COLUMNS, paper_style, save
from netinv_lightning.figures.titles import LETTER, short, title_above, wrapped

WIDEST_CELL = 0.62  # inches


def detection_heatmap(
    auroc_dS: Tensor,
    detectors: Sequence[str],
    sets: Sequence[str],
    path: Path,
    title: str = "",
    baselines: Collection[str] = (),
) -> Path:
    """Draw the AUROC of each detector on each data set, and its mean; the best mean is at the top.

    Args:
        auroc_dS: Values in [0, 1].
        detectors: Name of each row.
        sets: Name of each column.
        path: Output path without suffix.
        title: Title of the figure.
        baselines: Names of detectors that are marked with a star, as baselines.

    Returns:
        The path of the PNG; a PDF is written beside it.
    """
    order_d = auroc_dS.mean(dim=1).argsort(descending=True, stable=True)
    auroc_dS = torch.cat([auroc_dS, auroc_dS.mean(dim=1, keepdim=True)], dim=1)[order_d]
    names = [
        short(detectors[row]) + ("*" if detectors[row] in baselines else "")
        for row in order_d.tolist()
    ]
    D, C = auroc_dS.shape
    # All values that equal the best one after rounding are bold.
    bold_dS = (1000 * auroc_dS).round() == (1000 * auroc_dS.amax(dim=0)).round()
    names_width = LETTER * max(map(len, names)) + 0.2
    width = ONE_COLUMN if names_width + WIDEST_CELL * C <= ONE_COLUMN else TWO_COLUMNS
    with paper_style():
        figure = Figure(
            figsize=(width, 0.9 + 0.05 * max(map(len, map(short, sets))) + 0.19 * D),
            layout="constrained",
        )
        axes = figure.subplots()
        # The limits keep the ends of the colour map light, so that black text is readable.
        axes.imshow(auroc_dS.numpy(), cmap="RdBu", vmin=-0.4, vmax=1.4, aspect="auto")
        for row in range(D):
            for column in range(C):
                axes.text(
                    column,
                    row,
                    f"{float(auroc_dS[row, column]):.3f}",
                    ha="center",
                    va="center",
                    fontsize=SMALL_POINTS,
                    weight="bold" if bool(bold_dS[row, column]) else "normal",
                )
        axes.axvline(C - 1.5, color="white", linewidth=3)
        axes.set_yticks(range(D), names)
        axes.set_xticks(
            range(C), [*map(short, sets), "mean"], rotation=45, ha="left", rotation_mode="anchor"
        )
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        notes = [
            "AUROC: higher is better; 0.5 is chance, red is below it; bold: best of the column"
        ]
        notes += ["* baseline"] if baselines else []
        axes.set_xlabel("\n".join(wrapped(note, width - 0.2) for note in notes))
        title_above(figure, title)
        return save(figure, path)
