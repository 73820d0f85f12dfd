"""Figures of numbers: agreement, clusters, separation, rules.

Shape suffixes: M methods of counting, N classes, f points of a curve.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from torch import Tensor

from netinv_lightning.figures.style import (
    LETTER,
    MARKERS,
    NEUTRAL,
    ONE_COLUMN,
    PALETTE,
    SMALL_POINTS,
    legend_below,
    mark,
    paper_style,
    save,
    short,
    title_above,
)

LARGEST_TABLE = 40  # classes in rows; more are unreadable
DODGE = 0.1  # rows; so that two marks of one value are both seen
CLOSEST_TICKS = (
    1.35  # ratio of neighbouring numbers on a logarithmic axis that still have room for both
)

Roc = tuple[Tensor, Tensor, float, float, float]
"""False positive rates [f], true positive rates [f], the area under them, the ends of its interval."""


def agreement_curve(
    curves: Mapping[str, Mapping[int, float]],
    path: Path,
    title: str = "",
    chance: float | None = None,
) -> Path:
    """Draws how much of the classifier's decisions survives a projection on few principal components.

    Args:
        curves: For each group of samples ("all samples", "lowest margins") agreement in [0, 1] by number of components.
        path: Where to, without the ending.
        title: Above the figure.
        chance: Agreement of the control, a dashed line, or None.

    Returns:
        The path of the PNG; a PDF lies beside it.
    """
    with paper_style():
        figure = Figure(figsize=(ONE_COLUMN, 2.3), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        marks: list[Artist] = []
        for i, (name, by_dims) in enumerate(curves.items()):
            dims = sorted(by_dims)
            axes.plot(
                dims, [by_dims[k] for k in dims], color=PALETTE[i % 10], marker=MARKERS[i % 10]
            )
            marks.append(mark(name, PALETTE[i % 10], MARKERS[i % 10], line="-"))
        if chance is not None:
            axes.axhline(chance, color=NEUTRAL, linestyle="--", linewidth=0.8)
            marks.append(mark(f"control ({chance:.2f})", marker="", line="--"))
        ticks: list[int] = []
        for k in sorted(
            {k for by_dims in curves.values() for k in by_dims}, reverse=True
        ):  # the last is always told
            if not ticks or ticks[-1] >= CLOSEST_TICKS * k:
                ticks.append(k)
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.minorticks_off()
        axes.set(
            xlabel="principal components", ylabel="agreement with the classifier", ylim=(0, 1.03)
        )
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.5)
        title_above(figure, title)
        legend_below(figure, marks)
        return save(figure, path)


def cluster_counts(
    count_MN: Tensor,
    method_names: Sequence[str],
    class_names: Sequence[str],
    path: Path,
    title: str = "",
) -> Path:
    """Draws how many clusters each class has by each way of counting: a table, the darker the more.

    Args:
        count_MN: Counts; NaN, told as n/a, where a class has too few samples. Of more than 40 classes the first 40 are
            drawn, and the title says so.
        method_names: M names, each a column, such as "features" and "t-SNE, perplexity 30".
        class_names: N names, each a row.
        path: Where to, without the ending.
        title: Above the figure.

    Returns:
        The path of the PNG; a PDF lies beside it.
    """
    M, N = len(count_MN), min(count_MN.shape[1], LARGEST_TABLE)
    if count_MN.shape[1] > N:
        title = f"{title} (first {N} of {count_MN.shape[1]} classes)".strip()
    count_NM = count_MN[:, :N].T.double()
    most = max(
        float(count_NM.nan_to_num(1).max()), 4.0
    )  # a table of ones and twos shall not look dramatic
    with paper_style():
        figure = Figure(figsize=(ONE_COLUMN, 0.9 + 0.19 * N), layout="constrained")
        axes = figure.subplots()
        axes.imshow(
            count_NM.nan_to_num(0).numpy(), vmin=0, vmax=1.25 * most, cmap="Blues", aspect="auto"
        )
        for row in range(N):
            for column in range(M):
                count = float(count_NM[row, column])
                told, colour = (
                    ("n/a" if count != count else f"{count:g}"),
                    ("white" if count > 0.75 * most else "black"),
                )
                axes.text(
                    column, row, told, ha="center", va="center", fontsize=SMALL_POINTS, color=colour
                )
        longest = max(len(short(name)) for name in class_names[:N])
        room = (
            int((ONE_COLUMN - 0.1 - LETTER * longest) / M / LETTER) - 1
        )  # characters above a column
        flat = max(len(word) for name in method_names for word in name.split()) <= room
        axes.set_xticks(
            range(M),
            [textwrap.fill(name, room) if flat else name for name in method_names],
            rotation=0 if flat else 90,
        )
        axes.set_yticks(range(N), [short(name) for name in class_names[:N]])
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(
            "number of clusters" + (" (n/a: too few samples)" if count_NM.isnan().any() else "")
        )
        title_above(figure, title)
        return save(figure, path)


def separation_curves(
    curves: Mapping[str, Roc], path: Path, title: str = "", controls: Collection[str] = ()
) -> Path:
    """Draws how well scores tell inverted from real samples: ROC curves, the area under each in the legend (A4-5, A8-11).

    Args:
        curves: By name of the score.
        path: Where to, without the ending.
        title: Above the figure.
        controls: Names of the curves that are controls; these are dashed.

    Returns:
        The path of the PNG; a PDF lies beside it.
    """
    with paper_style():
        figure = Figure(figsize=(ONE_COLUMN, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=0.6)
        marks: list[Artist] = []
        for i, (name, (fpr_f, tpr_f, auc, low, high)) in enumerate(curves.items()):
            line: Literal["-", "--"] = "--" if name in controls else "-"
            axes.plot(
                fpr_f.numpy(),
                tpr_f.numpy(),
                color=PALETTE[i % 10],
                linestyle=line,
                drawstyle="steps-post",
            )
            marks.append(
                mark(f"{name}: {auc:.3f} [{low:.3f}, {high:.3f}]", PALETTE[i % 10], "", line=line)
            )
        axes.set(
            xlabel="false positive rate",
            ylabel="true positive rate",
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.01),
            aspect="equal",
        )
        title_above(figure, title)
        legend_below(figure, marks)
        return save(figure, path)


def rule_fidelity(
    names: Sequence[str],
    inverted: Sequence[float],
    real: Sequence[float | None],
    sizes: Sequence[str],
    path: Path,
    title: str = "",
) -> Path:
    """Draws how often rules and their controls agree with the classifier, the numbers at the right.

    Args:
        names: "rules in features", "decision tree", "majority class".
        inverted: Fidelity of each on held-out inverted samples, in [0, 1].
        real: Fidelity of each on held-out real samples, or None where there are none.
        sizes: How large each is, such as "24 rules, length 3.1", below its name; may be empty.
        path: Where to, without the ending.
        title: Above the figure.

    Returns:
        The path of the PNG; a PDF lies beside it.
    """
    rows = range(len(names))
    with paper_style():
        figure = Figure(figsize=(ONE_COLUMN, 0.6 + 0.36 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.hlines(rows, 0, 1, color="#DDDDDD", linewidth=0.5)
        axes.plot(
            inverted,
            [row - DODGE for row in rows],
            "o",
            color=PALETTE[0],
            markersize=5,
            clip_on=False,
        )
        marks: list[Artist] = [mark("inverted", PALETTE[0])]
        told = [f"{value:.3f}" for value in inverted]
        if any(value is not None for value in real):
            pairs = [
                (value, row + DODGE)
                for row, value in zip(rows, real, strict=True)
                if value is not None
            ]
            axes.plot(
                *zip(*pairs, strict=True),
                "s",
                color=PALETTE[1],
                markerfacecolor="none",
                markersize=5,
                clip_on=False,
            )
            marks.append(mark("real", PALETTE[1], "s", hollow=True))
            told = [
                f"{own} / {'n/a' if value is None else f'{value:.3f}'}"
                for own, value in zip(told, real, strict=True)
            ]
        axes.set_yticks(
            rows, [f"{name}\n{size}".strip() for name, size in zip(names, sizes, strict=True)]
        )
        axes.set(
            xlabel="fidelity: agreement with the classifier",
            xlim=(0, 1),
            ylim=(len(names) - 0.5, -0.5),
        )
        axes.tick_params("y", length=0)
        axes.spines["left"].set_visible(False)
        numbers = axes.secondary_yaxis("right")
        numbers.set_yticks(rows, told)
        numbers.tick_params(length=0)
        numbers.set_ylabel(" / ".join(str(entry.get_label()) for entry in marks))
        numbers.spines[:].set_visible(False)
        title_above(figure, title)
        legend_below(figure, marks)
        return save(figure, path)
