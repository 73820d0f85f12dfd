"""AUROC of each detector over the strength of a perturbation, by norm and direction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from netinv_lightning.figures.legends import legend_below, mark
from netinv_lightning.figures.style import MARKERS, NEUTRAL, PALETTE, TWO_COLUMNS, paper_style, save
from netinv_lightning.figures.titles import title_above
from netinv_lightning.ood.perturbation_results import PerturbationResults, PerturbationRow

NORM_NAMES = {"l1": "L1", "l2": "L2", "linf": "L∞"}
DIGIT_WIDTH = 0.045  # width of a digit of a tick label, as a share of the axis


def perturbation_curves(results: PerturbationResults, path: Path, title: str = "") -> Path:
    """Draw the AUROC of each detector over the strength, one panel per direction and norm.

    Bands are 95 % intervals. The dotted line is the accuracy of the classifier: it shows which
    perturbations change its predictions.

    Args:
        results: Results of the perturbation study.
        path: Output path without suffix.
        title: Title of the figure.

    Returns:
        The path of the PNG; a PDF is written beside it.
    """
    directions = list(dict.fromkeys(row.direction for row in results.rows))
    norms = list(dict.fromkeys(row.norm for row in results.rows))
    detectors = list(dict.fromkeys(row.detector for row in results.rows))
    ticks = _readable_ticks(sorted({row.rms for row in results.rows}))
    with paper_style():
        figure = Figure(figsize=(TWO_COLUMNS, 0.5 + 1.5 * len(directions)), layout="constrained")
        panels = figure.subplots(
            len(directions), len(norms), sharex=True, sharey=True, squeeze=False
        )
        for direction, panel_row in zip(directions, panels, strict=True):
            for norm, axes in zip(norms, panel_row, strict=True):
                _draw(
                    axes,
                    [row for row in results.rows if (row.direction, row.norm) == (direction, norm)],
                    detectors,
                )
            panel_row[0].set_ylabel(f"{direction}\nAUROC")
        for norm, top, bottom in zip(norms, panels[0], panels[-1], strict=True):
            top.set_title(NORM_NAMES[norm])
            bottom.set_xlabel("strength (RMS change)")
            bottom.set_xscale("log")
            bottom.set_xticks(ticks, [_label(rms) for rms in ticks])
            bottom.minorticks_off()
        panels[0, 0].set(ylim=(-0.03, 1.03), yticks=(0, 0.25, 0.5, 0.75, 1))
        marks: list[Artist] = [mark(name, *_style(i), line="-") for i, name in enumerate(detectors)]
        accuracy = Line2D([], [], color=NEUTRAL, linestyle=":", label="accuracy of the classifier")
        title_above(figure, title)
        legend_below(figure, [*marks, mark("chance", marker="", line="--"), accuracy])
        return save(figure, path)


def _draw(axes: Axes, rows: Sequence[PerturbationRow], detectors: Sequence[str]) -> None:
    """Draw one panel: a line and a band per detector, chance, and accuracy."""
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.5)
    axes.axhline(0.5, color=NEUTRAL, linestyle="--", linewidth=0.8)
    for i, name in enumerate(detectors):
        of_detector = sorted((row for row in rows if row.detector == name), key=lambda row: row.rms)
        rms = [row.rms for row in of_detector]
        if i == 0:  # the accuracy is the same for all detectors
            axes.plot(rms, [row.accuracy for row in of_detector], color=NEUTRAL, linestyle=":")
        colour, marker = _style(i)
        axes.fill_between(
            rms,
            [row.auroc_low for row in of_detector],
            [row.auroc_high for row in of_detector],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
        axes.plot(rms, [row.auroc for row in of_detector], color=colour, marker=marker)


def _style(i: int) -> tuple[str, str]:
    return PALETTE[i % 10], MARKERS[i % 10]


def _readable_ticks(strengths: Sequence[float]) -> list[float]:
    """Return strengths whose labels do not overlap on a logarithmic axis, largest first."""
    digit = DIGIT_WIDTH * math.log(strengths[-1] / strengths[0])
    ticks: list[float] = []
    for rms in reversed(strengths):
        if not ticks or math.log(ticks[-1] / rms) >= digit * len(_label(rms)):
            ticks.append(rms)
    return ticks


def _label(rms: float) -> str:
    return f"{rms:.2g}"
