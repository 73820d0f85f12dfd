"""Synthetic input for each figure of the study, and the contents of a drawn figure.

Shape suffixes: n samples, N classes, H rows and W columns of a mesh, M methods, R curve points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import Tensor

from netinv_lightning.interpretability.anomaly import Separation
from netinv_lightning.interpretability.embedding import EmbeddingStability
from netinv_lightning.interpretability.figures.charts import (
    draw_agreement,
    draw_cluster_counts,
    draw_roc_curves,
    draw_rule_fidelity,
)
from netinv_lightning.interpretability.figures.pca import draw_pca
from netinv_lightning.interpretability.figures.regions import draw_regions
from netinv_lightning.interpretability.figures.tsne import draw_tsne
from netinv_lightning.interpretability.figures.units import (
    draw_unit_frequencies,
    draw_unit_images,
    draw_unit_overlap,
)
from netinv_lightning.interpretability.regions import Regions

PETS = ["cat", "dog"]
CLOTHES = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]
TWENTY = [f"kind {label}" for label in range(19)] + ["a class name that is much too long"]
HUNDRED = [f"superclass {label}" for label in range(100)]
TITLE = "an experiment with a rather long name: fashion_invert, seed 3, penultimate layer"


def drawings(class_names: list[str], stem: Path, n: int = 400) -> dict[str, Callable[[], Path]]:
    """Return functions that draw each figure from synthetic numbers, by name."""
    N, source = len(class_names), torch.Generator().manual_seed(len(class_names))
    centre_N2 = 6 * torch.randn(N, 2, generator=source)
    label_n = torch.randint(N, (n,), generator=source)
    z_n2 = centre_N2[label_n] + torch.randn(n, 2, generator=source)
    real = centre_N2[label_n] + torch.randn(n, 2, generator=source), label_n
    variance_K = torch.arange(64.0, 0, -1) ** 2 / (torch.arange(64.0, 0, -1) ** 2).sum()
    counts_MN = torch.randint(1, 5, (4, N), generator=source).float()
    methods = ["features", "HDBSCAN", "t-SNE, perplexity 5", "t-SNE, perplexity 30"]
    groups = ["training", "test", "inverted", "generator 0", "generator 1"]
    images = torch.rand(3, 4, 1, 8, 8, generator=source)
    of_units = ([7, 311, 42], [0.5, 1.0, 0.25], [class_names[-1]] * 3)
    agreement = {k: 1 - 1 / k for k in (1, 2, 3, 5, 10, 20, 50, 128)}
    rate_R = torch.linspace(0, 1, 50)
    roc = Separation(0.667, 0.65, 0.68, rate_R, rate_R.sqrt())

    def tsne(perplexities: list[float], seeds: list[int]) -> Path:
        runs = [
            EmbeddingStability(
                perplexity=perplexity,
                embeddings_Sn2=torch.stack([z_n2, -z_n2])[: len(seeds)],
                overlap=0.5,
                overlap_by_chance=0.0123,
                trustworthiness=0.95,
                trustworthiness_by_chance=0.5,
            )
            for perplexity in perplexities
        ]
        return draw_tsne(runs, label_n, seeds, class_names, stem, TITLE)

    return {
        "pca": lambda: draw_pca(z_n2, label_n, variance_K, class_names, stem, TITLE, real),
        "regions": lambda: draw_regions(
            nearest_centre(centre_N2),
            z_n2=z_n2,
            label_n=label_n,
            class_names=class_names,
            variance_K=variance_K,
            agreement=0.5,
            path=stem,
            title=TITLE,
            real=real,
        ),
        "tsne": lambda: tsne([5, 30], [0, 1]),
        "five perplexities": lambda: tsne([2, 5, 30, 50, 100], [0]),
        "agreement": lambda: draw_agreement(
            {"all samples": agreement, "lowest margins": agreement}, stem, TITLE, 0.1
        ),
        "clusters": lambda: draw_cluster_counts(counts_MN, methods, class_names, stem, TITLE),
        "two methods": lambda: draw_cluster_counts(
            counts_MN[:2], methods[1:3], class_names, stem, TITLE
        ),
        "roc": lambda: draw_roc_curves(
            {"score": roc, "control: test against training": roc}, stem, TITLE, ["control"]
        ),
        "rules": lambda: draw_rule_fidelity(
            ["rules in features", "decision tree", "majority class"],
            inverted=[0.97, 0.9, 0.1],
            real=[0.96, 0.8, None],
            sizes=["24 rules, length 3.1", "24 leaves, depth 5", ""],
            path=stem,
            title=TITLE,
        ),
        "units": lambda: draw_unit_frequencies(
            torch.rand(5, 64, generator=source), groups, stem, TITLE
        ),
        "overlap": lambda: draw_unit_overlap(
            counts_MN / 5, groups[1:], torch.full((N,), 0.9), class_names, stem, TITLE
        ),
        "images": lambda: draw_unit_images(images, *of_units, stem, TITLE, images),
        "inverted images": lambda: draw_unit_images(images, *of_units, stem, TITLE),
    }


def nearest_centre(centre_N2: Tensor) -> Regions:
    """Return the decision regions of the nearest centre on a mesh."""
    x_W, y_H = torch.linspace(-12, 12, 60), torch.linspace(-15, 15, 50)
    mesh_HW2 = torch.stack(torch.meshgrid(y_H, x_W, indexing="ij")[::-1], dim=-1)
    logits_HWN = -(torch.cdist(mesh_HW2, centre_N2[None]) ** 2) / 4
    confidence_HW, class_HW = logits_HWN.softmax(dim=2).max(dim=2)
    return Regions(x_W, y_H, class_HW, confidence_HW, 1.0)


def two_blobs(n: int) -> tuple[Tensor, Tensor]:
    """Return samples with cats at the left and dogs at the right."""
    label_n = torch.arange(n) % 2
    return torch.stack([20 * label_n - 10.0, torch.zeros(n)], dim=1) + torch.rand(n, 2), label_n


def ticks(axis: Axis) -> list[Text]:
    low, high = sorted(axis.get_view_interval())
    slack = 1e-6 * (high - low)
    pairs = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
    return [label for place, label in pairs if low - slack <= place <= high + slack]


def texts(figure: Figure) -> Iterator[Text]:
    """Return all visible texts of a figure."""
    found = list(figure.texts)
    for legend in figure.legends:
        found += legend.get_texts()
    for axes in [*figure.axes, *(child for parent in figure.axes for child in parent.child_axes)]:
        found += [
            axes.title,
            axes.xaxis.label,
            axes.yaxis.label,
            *axes.texts,
            *ticks(axes.xaxis),
            *ticks(axes.yaxis),
        ]
    return (text for text in found if text.get_text().strip() and text.get_visible())


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def samples(axes: Axes) -> list[PathCollection]:
    return [artist for artist in axes.collections if isinstance(artist, PathCollection)]
