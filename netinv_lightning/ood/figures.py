"""Figures of out-of-distribution detection: which detector wins, by how much, and whether a threshold on the confidence is clear.

Shape suffixes: n in-distribution images, m images of a set outside, S sets, d detectors, b bins.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.metrics import auc, roc_curve
from torch import Tensor

from netinv_lightning.figures.scores import LETTER
from netinv_lightning.figures.style import (
    NEUTRAL,
    ONE_COLUMN,
    OTHERS_COLOUR,
    PALETTE,
    SMALL_POINTS,
    TWO_COLUMNS,
    legend_below,
    mark,
    paper_style,
    save,
    short,
    title_above,
)
from netinv_lightning.metrics.detection import ThresholdClaim, threshold_claim

Dashes = Literal["-"] | tuple[float, Sequence[float]]
"""As matplotlib takes them: one line, or where its pattern begins, and the points that are drawn and left out by turns."""

BEST = 5
"""Detectors with a line of their own; more cannot be told apart in a panel."""
LOOKS: tuple[tuple[str, Dashes], ...] = (
    (PALETTE[0], "-"),
    (PALETTE[1], (0, (5, 1))),
    (PALETTE[2], (0, (4, 1, 1, 1))),
    (PALETTE[3], (0, (1, 1))),
    (PALETTE[5], (0, (2, 1))),
)
"""Colours and dashes of the best detectors: dark enough for thin lines, and different in a print in grey."""
MOST_PANELS = 4  # beside each other

BINS = 50
LEAST_SHARE = 1e-4  # of the images; bars begin there
BAR = 0.72  # height of a bar of all images, in rows
LEAST_BAR = 0.04  # in rows; a single image is seen
CLEAR, VIOLATED = PALETTE[0], PALETTE[3]

WIDEST_CELL = 0.62  # inches


def roc_curves(
    inside_dn: Mapping[str, Tensor],
    outside: Mapping[str, Mapping[str, Tensor]],
    path: Path,
    title: str = "",
) -> Path:
    """Draws how well each detector tells each set, one panel a set (A5-8).

    The detectors that are best on average have a colour, and their AUROC stands in each panel; the others are thin grey lines, and
    the legend names them all with their mean AUROC.

    Args:
        inside_dn: Scores [n] of in-distribution images by detector, higher = more out-of-distribution.
        outside: For each set, the scores [m] of its images by detector.
        path: Where to, without the ending.
        title: Above the figure.

    Returns:
        The path of the PNG; a PDF lies beside it.
    """
    curves = {
        (d, s): _roc(inside_dn[d], scores[d]) for s, scores in outside.items() for d in inside_dn
    }
    area = {pair: float(auc(*curve)) for pair, curve in curves.items()}
    mean = {d: sum(area[d, s] for s in outside) / len(outside) for d in inside_dn}
    ranked = sorted(mean, key=lambda d: -mean[d])
    best, others = ranked[:BEST], ranked[BEST:]
    columns = math.ceil(len(outside) / math.ceil(len(outside) / MOST_PANELS))
    rows = math.ceil(len(outside) / columns)
    width = ONE_COLUMN if columns <= 2 else TWO_COLUMNS
    with paper_style():
        figure = Figure(
            figsize=(width, rows * (0.9 * width / columns + 0.2) + 0.2), layout="constrained"
        )
        grid = (
            figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
        )
        for axes in grid[len(outside) :]:
            axes.remove()
        for i, (axes, s) in enumerate(zip(grid, outside, strict=False)):
            axes.plot((0, 1), (0, 1), color=NEUTRAL, linestyle=":", linewidth=0.5)
            for d in reversed(others):
                axes.plot(*curves[d, s], color=OTHERS_COLOUR, linewidth=0.5)
            for d, (colour, dashes) in reversed(list(zip(best, LOOKS, strict=False))):
                axes.plot(*curves[d, s], color=colour, linestyle=dashes)
            if len(outside) > 1:
                handles = [
                    _line(f"{area[d, s]:.3f}", *look) for d, look in zip(best, LOOKS, strict=False)
                ]
                axes.legend(
                    handles=handles, loc="lower right", frameon=True, framealpha=0.8, edgecolor="none", borderpad=0.1, labelspacing=0.15,
                    handlelength=1.6, borderaxespad=0.2,
                )  # fmt: skip
            axes.set(
                xlim=(-0.02, 1.02),
                ylim=(-0.02, 1.02),
                aspect="equal",
                xticks=(0, 0.5, 1),
                yticks=(0, 0.5, 1),
            )
            axes.set_xticklabels(("0", "0.5", "1"))
            axes.set_yticklabels(("0", "0.5", "1"))
            axes.tick_params(labelbottom=i + columns >= len(outside))
            axes.set_title(short(s), fontsize=SMALL_POINTS)
            if i + columns >= len(outside):
                axes.set_xlabel("false positive rate")
            if i % columns == 0:
                axes.set_ylabel("true positive rate")
        title_above(figure, title)
        told = {
            d: f"{short(d)}\u00a0{mean[d]:.3f}" for d in ranked
        }  # a name and its number stay on one line
        what = "AUROC" if len(outside) == 1 else "mean AUROC"
        heading = _line(
            f"the best {len(best)} of {len(ranked)} by {what}" if others else what, "none", "-"
        )
        groups = [[heading], [_line(told[d], *look) for d, look in zip(best, LOOKS, strict=False)]]
        if others:
            rest = _wrapped(
                f"the other {len(others)}: {', '.join(told[d] for d in others)}", width - 0.5
            )
            groups.append([_line(rest, OTHERS_COLOUR, "-", 0.5)])
        legend_below(figure, *groups)
        return save(figure, path)


def confidence_histograms(
    panels: Mapping[str, tuple[Tensor, Mapping[str, Tensor]]],
    path: Path,
    title: str = "",
    misclassified: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> Path:
    """Draws how confident classifiers are of their own data and of other sets, and whether a threshold is clear (A8-10, A4-8).

    A row is a histogram of one set. What lies at or above the least confident in-distribution image speaks against the papers' claim,
    and is red; its share stands at the right. The verdict on the claim, for all sets together, is in the panel's title, and in words below.

    Args:
        panels: By classifier: confidences [n] of in-distribution images and, by set, [m] of those outside. A confidence is the largest
            probability of an in-distribution class, in [0, 1].
        path: Where to, without the ending.
        title: Above the figure.
        misclassified: By classifier and set, which images [m] are taken for an in-distribution class, as in `threshold_claim`; all
            where it is not told. A classifier with a garbage class needs it.

    Returns:
        The path of the PNG; a PDF lies beside it.
    """
    sets = list(dict.fromkeys(name for _, outside in panels.values() for name in outside))
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    width = ONE_COLUMN if columns == 1 else TWO_COLUMNS
    with paper_style():
        figure = Figure(
            figsize=(width, rows * (0.9 + 0.24 * (len(sets) + 1))), layout="constrained"
        )
        grid = (
            figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
        )
        for axes in grid[len(panels) :]:
            axes.remove()
        told = ["bars: shares of a set's images, on a log scale from 0.01\u00a0% to 100\u00a0%"]
        for i, (axes, (name, (inside_n, outside))) in enumerate(
            zip(grid, panels.items(), strict=False)
        ):
            wrong = {s: torch.ones(len(out_m), dtype=torch.bool) for s, out_m in outside.items()}
            wrong |= (misclassified or {}).get(name, {})
            _rows_of_histograms(axes, inside_n, outside, wrong, sets)
            claim = threshold_claim(
                inside_n, torch.cat(list(outside.values())), torch.cat([wrong[s] for s in outside])
            )
            verdict, colour = (
                ("a clear threshold", CLEAR)
                if claim.all_samples.holds
                else ("no clear threshold", VIOLATED)
            )
            axes.set_title(f"{short(name)}\n{verdict}", color=colour, weight="bold")
            axes.tick_params(labelbottom=i + columns >= len(panels))
            if i + columns >= len(panels):
                axes.set_xlabel("confidence")
            told.append(f"{short(name)}: {_in_words(claim)}")
        title_above(figure, title)
        marks = [
            mark("least confident in-distribution", marker="", line="--"),
            mark("most confident misclassified outside", marker="^"),
            mark("outside: misclassified at or above the line", VIOLATED, "s"),
            mark("outside: all others", CLEAR, "s"),
        ]
        legend_below(
            figure,
            marks,
            [mark("\n".join(_wrapped(words, width - 0.4) for words in told), marker="")],
        )
        return save(figure, path)


def detection_table(
    auroc_dS: Tensor,
    detectors: Sequence[str],
    sets: Sequence[str],
    path: Path,
    title: str = "",
    marked: Collection[str] = (),
) -> Path:
    """Draws the AUROC of each detector on each set, and its mean, as a table; the best mean comes first (A5-8).

    Args:
        auroc_dS: Values in [0, 1].
        detectors: A name each row.
        sets: A name each column.
        path: Where to, without the ending.
        title: Above the figure.
        marked: Names of the detectors that are controls; these have a star, which a note explains.

    Returns:
        The path of the PNG; a PDF lies beside it.
    """
    order_d = auroc_dS.mean(dim=1).argsort(descending=True, stable=True)
    auroc_dS = torch.cat([auroc_dS, auroc_dS.mean(dim=1, keepdim=True)], dim=1)[order_d]
    names = [
        short(detectors[row]) + ("*" if detectors[row] in marked else "")
        for row in order_d.tolist()
    ]
    D, C = auroc_dS.shape
    # What is equal in print is equally bold.
    bold_dS = (1000 * auroc_dS).round() == (1000 * auroc_dS.amax(dim=0)).round()
    names_width = LETTER * max(map(len, names)) + 0.2
    width = ONE_COLUMN if names_width + WIDEST_CELL * C <= ONE_COLUMN else TWO_COLUMNS
    with paper_style():
        figure = Figure(
            figsize=(width, 0.9 + 0.05 * max(map(len, map(short, sets))) + 0.19 * D),
            layout="constrained",
        )
        axes = figure.subplots()
        # Lighter than the ends of the scale, so that black is readable on them.
        axes.imshow(auroc_dS.numpy(), cmap="RdBu", vmin=-0.4, vmax=1.4, aspect="auto")
        for row in range(D):
            for column in range(C):
                weight = "bold" if bool(bold_dS[row, column]) else "normal"
                told = f"{float(auroc_dS[row, column]):.3f}"
                axes.text(
                    column,
                    row,
                    told,
                    ha="center",
                    va="center",
                    fontsize=SMALL_POINTS,
                    weight=weight,
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
            "AUROC: higher is better, 0.5 is chance, red is below it; bold: the best of the column"
        ]
        notes += ["* control"] if marked else []
        axes.set_xlabel("\n".join(_wrapped(note, width - 0.2) for note in notes))
        title_above(figure, title)
        return save(figure, path)


def _roc(inside_n: Tensor, outside_m: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates; where scores are equal the line is straight, so that ties count half."""
    false_positive, true_positive, _ = roc_curve(
        np.arange(len(inside_n) + len(outside_m)) >= len(inside_n),
        torch.cat([inside_n, outside_m]).numpy(),
    )
    return false_positive, true_positive


def _line(label: str, colour: str, dashes: Dashes, width: float = 1.2) -> Line2D:
    return Line2D([], [], color=colour, linestyle=dashes, linewidth=width, label=label)


def _wrapped(text: str, inches: float) -> str:
    return textwrap.fill(text, int(inches / LETTER), break_on_hyphens=False)


def _rows_of_histograms(
    axes: Axes,
    inside_n: Tensor,
    outside: Mapping[str, Tensor],
    wrong: Mapping[str, Tensor],
    sets: list[str],
) -> None:
    """The rows of one panel, and the violations at its right."""
    in_n = inside_n.double().numpy()
    least = float(in_n.min())
    edges = np.unique(
        [*np.linspace(0, 1, BINS + 1), min(least, 1)]
    )  # a bar is on one side of the threshold
    axes.axvline(least, color=NEUTRAL, linestyle="--", linewidth=0.8, zorder=3)
    base = len(sets)
    _bars(axes, in_n, np.ones(len(in_n), dtype=bool), edges, base, NEUTRAL)
    told = {base: "violations"}
    for s, out_m in outside.items():
        base = len(sets) - 1 - sets.index(s)
        wrong_m, confidence_m = wrong[s].bool().numpy(), out_m.double().numpy()
        against_m = wrong_m & (confidence_m >= least)
        _bars(axes, confidence_m, np.ones(len(confidence_m), dtype=bool), edges, base, CLEAR)
        _bars(axes, confidence_m, against_m, edges, base, VIOLATED)
        if wrong_m.any():
            colour = VIOLATED if against_m.any() else CLEAR
            axes.plot(
                confidence_m[wrong_m].max(), base - 0.02, "^", color=colour, clip_on=False, zorder=4
            )
        told[base] = _percent(against_m.mean())
    axes.set(xlim=(0, 1), ylim=(-0.15, len(sets) + 0.85), xticks=(0, 0.5, 1))
    axes.set_xticklabels(("0", "0.5", "1"))
    axes.set_yticks(
        [base + 0.3 for base in range(len(sets) + 1)],
        [*map(short, reversed(sets)), "in-distribution"],
    )
    axes.tick_params("y", length=0)
    axes.spines["left"].set_visible(False)
    numbers = axes.secondary_yaxis("right")
    numbers.set_yticks([base + 0.3 for base in told], list(told.values()))
    numbers.tick_params(length=0)
    numbers.spines[:].set_visible(False)


def _bars(
    axes: Axes,
    value_n: np.ndarray,
    drawn_n: np.ndarray,
    edges: np.ndarray,
    base: float,
    colour: str,
) -> None:
    """A histogram of some of the values upon `base`; heights are logarithms of shares of all values."""
    count_b, _ = np.histogram(value_n[drawn_n].clip(0, 1), edges)
    share_b = (count_b / len(value_n)).clip(LEAST_SHARE)
    height_b = np.where(
        count_b > 0, (BAR * (1 - np.log10(share_b) / np.log10(LEAST_SHARE))).clip(LEAST_BAR), 0
    )
    axes.stairs(base + height_b, edges, baseline=base, fill=True, color=colour, linewidth=0)
    axes.plot((0, 1), (base, base), color="#DDDDDD", linewidth=0.5, zorder=0)


def _in_words(claim: ThresholdClaim) -> str:
    gap, trimmed = claim.all_samples, claim.but_5_percent
    if not claim.misclassified:
        return "no outside image is taken for an in-distribution class."
    if gap.holds:
        return (
            f"every misclassified outside image (up to {gap.most_out:.3f}) is less confident than every in-distribution image "
            f"(from {gap.least_in:.3f})."
        )
    rest = "a threshold is clear" if trimmed.holds else _percent(trimmed.violations_out)
    return (
        f"{_percent(gap.violations_out)} of the outside images are misclassified as confidently as the least confident in-distribution "
        f"image ({gap.least_in:.3f}) or more, up to {gap.most_out:.3f}. Without the most extreme 5\u00a0% of either side: {rest}."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g}\u00a0%"  # one word, that no line is broken in
