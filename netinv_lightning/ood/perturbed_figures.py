"""Figure of perturbation shifts: how well each detector notices them, by norm and strength."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from netinv_lightning.figures.style import (
    MARKERS,
    NEUTRAL,
    PALETTE,
    TWO_COLUMNS,
    legend_below,
    mark,
    paper_style,
    save,
    title_above,
)
from netinv_lightning.ood.perturbed import Row, Shifts

NORM_NAMES = {"l1": "L1", "l2": "L2", "linf": "L∞"}
LETTER = 0.045  # of the axis's length, the width of a digit of a tick


def shift_curves(study: Shifts, path: Path, title: str = "") -> Path:
    """Draws the AUROC of each detector over the strength of perturbations, a panel for each direction and norm (A2-15, A8-9).

    Bands are 95 % intervals. The dotted line is the classifier's accuracy: it tells shifts that do harm from those that do not.

    Args:
        study: What was measured.
        path: Where to, without the ending.
        title: Above the figure.

    Returns:
        The path of the PNG; a PDF lies beside it.
    """
    directions = list(dict.fromkeys(row.direction for row in study.rows))
    norms = list(dict.fromkeys(row.norm for row in study.rows))
    detectors = list(dict.fromkeys(row.detector for row in study.rows))
    ticks = _apart(sorted({row.rms for row in study.rows}))
    with paper_style():
        figure = Figure(figsize=(TWO_COLUMNS, 0.5 + 1.5 * len(directions)), layout="constrained")
        panels = figure.subplots(
            len(directions), len(norms), sharex=True, sharey=True, squeeze=False
        )
        for direction, line_of_panels in zip(directions, panels, strict=True):
            for norm, axes in zip(norms, line_of_panels, strict=True):
                _draw(
                    axes,
                    [row for row in study.rows if (row.direction, row.norm) == (direction, norm)],
                    detectors,
                )
            line_of_panels[0].set_ylabel(f"{direction}\nAUROC")
        for norm, top, bottom in zip(norms, panels[0], panels[-1], strict=True):
            top.set_title(NORM_NAMES[norm])
            bottom.set_xlabel("strength (RMS change)")
            bottom.set_xscale("log")
            bottom.set_xticks(ticks, [_told(rms) for rms in ticks])
            bottom.minorticks_off()
        panels[0, 0].set(ylim=(-0.03, 1.03), yticks=(0, 0.25, 0.5, 0.75, 1))
        marks: list[Artist] = [mark(name, *_look(i), line="-") for i, name in enumerate(detectors)]
        accuracy = Line2D([], [], color=NEUTRAL, linestyle=":", label="accuracy of the classifier")
        title_above(figure, title)
        legend_below(figure, [*marks, mark("chance", marker="", line="--"), accuracy])
        return save(figure, path)


def _draw(axes: Axes, rows: Sequence[Row], detectors: Sequence[str]) -> None:
    """One panel: a line and a band for each detector, chance, accuracy."""
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.5)
    axes.axhline(0.5, color=NEUTRAL, linestyle="--", linewidth=0.8)
    for i, name in enumerate(detectors):
        own = sorted((row for row in rows if row.detector == name), key=lambda row: row.rms)
        rms = [row.rms for row in own]
        if i == 0:  # the same for all
            axes.plot(rms, [row.accuracy for row in own], color=NEUTRAL, linestyle=":")
        colour, marker = _look(i)
        axes.fill_between(
            rms,
            [row.auroc_low for row in own],
            [row.auroc_high for row in own],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
        axes.plot(rms, [row.auroc for row in own], color=colour, marker=marker)


def _look(i: int) -> tuple[str, str]:
    return PALETTE[i % 10], MARKERS[i % 10]


def _apart(strengths: Sequence[float]) -> list[float]:
    """Those strengths, from the largest on, whose numbers have room on a logarithmic axis."""
    digit = LETTER * math.log(strengths[-1] / strengths[0])
    ticks: list[float] = []
    for rms in reversed(strengths):
        if not ticks or math.log(ticks[-1] / rms) >= digit * len(_told(rms)):
            ticks.append(rms)
    return ticks


def _told(rms: float) -> str:
    return f"{rms:.2g}"
