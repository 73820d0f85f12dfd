"""Figure of t-SNE embeddings over perplexities and seeds.

Shape suffixes: n samples, 2 plane coordinates, S seeds, P perplexities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from netinv_lightning.figures.legends import class_marks, legend_below
from netinv_lightning.figures.style import (
    ONE_COLUMN,
    SMALL_POINTS,
    TWO_COLUMNS,
    class_styles,
    paper_style,
    save,
)
from netinv_lightning.figures.titles import title_above, with_first_of
from netinv_lightning.interpretability.embedding import EmbeddingStability
from netinv_lightning.interpretability.figures.samples import draw_samples

MAX_POINTS = 500
"""Largest number of samples drawn per panel."""
MAX_SEEDS = 3


def draw_tsne(
    runs: Sequence[EmbeddingStability],
    label_n: Tensor,
    seeds: Sequence[int],
    class_names: Sequence[str],
    path: Path,
    title: str = "",
) -> Path:
    """Draw t-SNE embeddings: one column per perplexity, one row per seed, their stability below.

    The axes have no scale: distances between groups and sizes of groups have no meaning in t-SNE.

    Args:
        runs: P perplexities with S embeddings each. If there are more than three seeds, the first
            three are drawn, and the title notes it. If there are more than 500 samples, a random
            subset is drawn, and the legend notes it.
        label_n: Classes of the samples.
        seeds: S seeds.
        class_names: N names.
        path: Output path without suffix.
        title: Title of the figure.

    Returns:
        The path of the PNG; a PDF is written beside it.
    """
    S, P = min(len(seeds), MAX_SEEDS), len(runs)
    title = with_first_of(title, S, len(seeds), "seeds")
    with paper_style():
        styles = class_styles(label_n, class_names)
        width = ONE_COLUMN if P == 1 else TWO_COLUMNS
        side = min(width / P, 3.0)
        figure = Figure(figsize=(width, side * S + 0.5), layout="constrained")
        axes_SP = figure.subplots(S, P, squeeze=False)
        for s in range(S):
            for p in range(P):
                axes = axes_SP[s, p]
                drawn = draw_samples(
                    axes, runs[p].embeddings_Sn2[s], label_n, styles, "inverted", MAX_POINTS
                )
                axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
                axes.spines[:].set_visible(True)
            axes_SP[s, 0].set_ylabel(f"seed {seeds[s]}")
        for p, run in enumerate(runs):
            axes_SP[0, p].set_title(f"perplexity {run.perplexity:g}")
            axes_SP[-1, p].set_xlabel(_stability(run, one_line=P <= 2), fontsize=SMALL_POINTS)
        title_above(figure, title)
        legend_below(figure, class_marks(styles), [drawn])
        return save(figure, path)


def _stability(run: EmbeddingStability, one_line: bool) -> str:
    gap = " " if one_line else "\n"
    lines = [
        f"trustworthiness {run.trustworthiness:.3f}"
        f"{gap}(chance {run.trustworthiness_by_chance:.2f})"
    ]
    if not math.isnan(run.overlap):
        overlap = f"shared neighbours {run.overlap:.2f}{gap}(chance {run.overlap_by_chance:.2g})"
        lines.insert(0, overlap)
    return "\n".join(lines)
