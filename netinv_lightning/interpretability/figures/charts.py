"""Charts of the study's numbers: agreement, cluster counts, ROC curves, fidelity of rules.

Shape suffixes: M counting methods, N classes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from torch import Tensor

from netinv_lightning.figures.legends import legend_below, mark
from netinv_lightning.figures.style import (
    MARKERS,
    NEUTRAL,
    ONE_COLUMN,
    PALETTE,
    SMALL_POINTS,
    paper_style,
    save,
)
from netinv_lightning.figures.titles import LETTER, short, title_above, with_first_of
from netinv_lightning.interpretability.anomaly import Separation

MAX_ROWS = 40  # of classes; more are unreadable
DODGE = 0.1  # in rows: offset that keeps two markers of one value visible
CLOSEST_TICKS = 1.35  # smallest ratio of neighbouring tick labels on a logarithmic axis


def draw_agreement(
    curves: Mapping[str, Mapping[int, float]],
    path: Path,
    title: str = "",
    chance: float | None = None,
) -> Path:
    """Draw the agreement with the classifier by number of principal components.

    Args:
        curves: For each group of samples ("all samples", "lowest margins"), agreement in [0, 1] by
            number of components.
        path: Output path without suffix.
        title: Title of the figure.
        chance: Agreement of the control, drawn as a dashed line, or None.

    Returns:
        The path of the PNG; a PDF is written beside it.
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
        # From the largest number of components down, so that it is always labelled.
        for k in sorted({k for by_dims in curves.values() for k in by_dims}, reverse=True):
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


def draw_cluster_counts(
    count_MN: Tensor,
    method_names: Sequence[str],
    class_names: Sequence[str],
    path: Path,
    title: str = "",
) -> Path:
    """Draw a table of the number of clusters per class and method; higher counts are darker.

    Args:
        count_MN: Counts; NaN, shown as n/a, for a class with too few samples. If there are more
            than 40 classes, the first 40 are drawn, and the title notes it.
        method_names: M names, one per column, such as "features" and "t-SNE, perplexity 30".
        class_names: N names, one per row.
        path: Output path without suffix.
        title: Title of the figure.

    Returns:
        The path of the PNG; a PDF is written beside it.
    """
    M, N = len(count_MN), min(count_MN.shape[1], MAX_ROWS)
    title = with_first_of(title, N, count_MN.shape[1], "classes")
    count_NM = count_MN[:, :N].T.double()
    # At least 4, so that a table of ones and twos keeps light colours.
    most = max(float(count_NM.nan_to_num(1).max()), 4.0)
    with paper_style():
        figure = Figure(figsize=(ONE_COLUMN, 0.9 + 0.19 * N), layout="constrained")
        axes = figure.subplots()
        axes.imshow(
            count_NM.nan_to_num(0).numpy(), vmin=0, vmax=1.25 * most, cmap="Blues", aspect="auto"
        )
        for row in range(N):
            for column in range(M):
                count = float(count_NM[row, column])
                entry = "n/a" if count != count else f"{count:g}"
                colour = "white" if count > 0.75 * most else "black"
                axes.text(
                    column,
                    row,
                    entry,
                    ha="center",
                    va="center",
                    fontsize=SMALL_POINTS,
                    color=colour,
                )
        longest = max(len(short(name)) for name in class_names[:N])
        width = ONE_COLUMN - 0.1 - LETTER * longest
        characters = int(width / M / LETTER) - 1  # that fit above a column
        flat = max(len(word) for name in method_names for word in name.split()) <= characters
        axes.set_xticks(
            range(M),
            [textwrap.fill(name, characters) if flat else name for name in method_names],
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


def draw_roc_curves(
    curves: Mapping[str, Separation], path: Path, title: str = "", controls: Collection[str] = ()
) -> Path:
    """Draw ROC curves of scores that separate inverted from real samples; the legend gives the AUC.

    Args:
        curves: Separation by each score, by name.
        path: Output path without suffix.
        title: Title of the figure.
        controls: Names of the curves that are controls; they are dashed.

    Returns:
        The path of the PNG; a PDF is written beside it.
    """
    with paper_style():
        figure = Figure(figsize=(ONE_COLUMN, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=0.6)
        marks: list[Artist] = []
        for i, (name, curve) in enumerate(curves.items()):
            line: Literal["-", "--"] = "--" if name in controls else "-"
            axes.plot(
                curve.false_positive_R.numpy(),
                curve.true_positive_R.numpy(),
                color=PALETTE[i % 10],
                linestyle=line,
                drawstyle="steps-post",
            )
            auc = f"{curve.auc:.3f} [{curve.low:.3f}, {curve.high:.3f}]"
            marks.append(mark(f"{name}: {auc}", PALETTE[i % 10], "", line=line))
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


def draw_rule_fidelity(
    names: Sequence[str],
    inverted: Sequence[float],
    real: Sequence[float | None],
    sizes: Sequence[str],
    path: Path,
    title: str = "",
) -> Path:
    """Draw how often rules and their baselines agree with the classifier.

    Args:
        names: "rules in features", "decision tree", "majority class".
        inverted: Fidelity of each on held-out inverted samples, in [0, 1].
        real: Fidelity of each on held-out real samples, or None without any.
        sizes: Size of each, such as "24 rules, length 3.1", written below its name; may be empty.
        path: Output path without suffix.
        title: Title of the figure.

    Returns:
        The path of the PNG; a PDF is written beside it.
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
        numbers = [f"{value:.3f}" for value in inverted]
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
            numbers = [
                f"{own} / {'n/a' if value is None else f'{value:.3f}'}"
                for own, value in zip(numbers, real, strict=True)
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
        right = axes.secondary_yaxis("right")
        right.set_yticks(rows, numbers)
        right.tick_params(length=0)
        right.set_ylabel(" / ".join(str(entry.get_label()) for entry in marks))
        right.spines[:].set_visible(False)
        title_above(figure, title)
        legend_below(figure, marks)
        return save(figure, path)
