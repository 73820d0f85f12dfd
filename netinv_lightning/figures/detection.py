"""Figures of out-of-distribution detection.

Shape suffixes: n images, S sets, d detectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from torch import Tensor

from netinv_lightning.figures.style import NEUTRAL, ONE_COLUMN, PALETTE, SMALL_POINTS, legend_below, mark, paper_style, save, title_above

BINS = 50
DECADES = (1.0, 0.1, 0.01, 0.001)


def confidence_histograms(inside_n: Tensor, outside: Mapping[str, Tensor], path: Path, title: str = "") -> Path:
    """Draws how confident a classifier is of its own data and of each other set (A8-10).

    Below the histograms stands where the papers' threshold would have to lie: the least confident image of its own.

    Args:
        inside_n: Greatest softmax of test images of its own data, in [0, 1].
        outside: The same for each other set, by name.
        path: Where to, without the ending.
        title: Above the figure.

    Returns:
        The path of the PNG; a PDF lies beside it.
    """
    with paper_style():
        figure = Figure(figsize=(ONE_COLUMN, 2.4), layout="constrained")
        axes = figure.subplots()
        edges = torch.linspace(0, 1, BINS + 1).tolist()
        marks: list[Artist] = []
        for i, (name, confidence_n) in enumerate({"in-distribution": inside_n, **outside}.items()):
            colour = NEUTRAL if i == 0 else PALETTE[(i - 1) % 10]
            weight_n = torch.full_like(confidence_n, 1 / len(confidence_n)).numpy()
            axes.hist(
                confidence_n.numpy(), edges, weights=weight_n, histtype="stepfilled" if i == 0 else "step", color=colour,
                alpha=0.4 if i == 0 else 1.0, linewidth=1.0,
            )  # fmt: skip
            marks.append(mark(name, colour, "s" if i == 0 else "", line="none" if i == 0 else "-"))
        least = float(inside_n.min())
        axes.axvline(least, color=NEUTRAL, linestyle="--", linewidth=0.8)
        marks.append(mark(f"least confident of its own ({least:.2f})", marker="", line="--"))
        axes.set(xlabel="greatest softmax", ylabel="share of the images", xlim=(0, 1.0), yscale="log")
        axes.set_yticks(DECADES, [f"{share:g}" for share in DECADES])
        axes.minorticks_off()
        title_above(figure, title)
        legend_below(figure, marks)
        return save(figure, path)


def detection_table(auroc_dS: Tensor, detectors: Sequence[str], sets: Sequence[str], path: Path, title: str = "") -> Path:
    """Draws the AUROC of each detector on each set as a table, the best of each set in bold (A5-8).

    Args:
        auroc_dS: Values in [0, 1].
        detectors: A name each row.
        sets: A name each column.
        path: Where to, without the ending.
        title: Above the figure.

    Returns:
        The path of the PNG; a PDF lies beside it.
    """
    with paper_style():
        D, S = auroc_dS.shape
        figure = Figure(figsize=(max(ONE_COLUMN, 1.2 + 0.6 * S), 1.0 + 0.2 * D), layout="constrained")
        axes = figure.subplots()
        axes.imshow(auroc_dS.numpy(), cmap="Blues", vmin=0.5, vmax=1.3, aspect="auto")
        best_S = auroc_dS.argmax(dim=0)
        for row in range(D):
            for column in range(S):
                weight = "bold" if int(best_S[column]) == row else "normal"
                axes.text(
                    column, row, f"{float(auroc_dS[row, column]):.3f}", ha="center", va="center", fontsize=SMALL_POINTS, weight=weight
                )
        axes.set_yticks(range(D), list(detectors))
        axes.set_xticks(range(S), list(sets), rotation=30, ha="left")
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("AUROC (higher is better; bold: the best of the set)")
        title_above(figure, title)
        return save(figure, path)
