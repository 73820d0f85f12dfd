"""Number of clusters of each class in the features, and in t-SNE embeddings.

It tests the observation of two clusters per class in t-SNE by Suhail, Tang and Sethi (2024, arXiv
2411.17777, section 5.1).

Shape suffixes: n samples, 2 plane coordinates, S seeds, P perplexities.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from netinv_lightning.data.splits import stratified_indices
from netinv_lightning.interpretability.clusters import (
    ClassClusters,
    clusters_in_embedding,
    count_clusters,
)
from netinv_lightning.interpretability.embedding import embedding_stability
from netinv_lightning.interpretability.figures.charts import draw_cluster_counts
from netinv_lightning.interpretability.figures.tsne import draw_tsne
from netinv_lightning.interpretability.study_input import StudyInput, StudyResult
from netinv_lightning.metric_names import CLUSTERS, interpretation

Counts = list[float]
"""Number of clusters of each class; NaN for a class with too few samples."""


def analyse_clusters(inputs: StudyInput) -> StudyResult:
    """Count the clusters of inverted and test samples, and compare with HDBSCAN and t-SNE."""
    result, inverted, N = StudyResult(), inputs.inverted, inputs.N
    found = count_clusters(inverted.features_nD, inverted.labels_n, N, inputs.seed)
    columns = {
        "inverted: features": _counts(clusters.count if clusters else None for clusters in found),
        "inverted: HDBSCAN": _counts(
            max(1, clusters.hdbscan_clusters) if clusters else None for clusters in found
        ),
    }
    _record_classes(inputs, result, found)
    if inputs.test is not None:
        test = count_clusters(inputs.test.features_nD, inputs.test.labels_n, N, inputs.seed)
        counts = columns["test: features"] = _counts(
            clusters.count if clusters else None for clusters in test
        )
        result.metrics[interpretation("clusters_test")] = _mean(counts)
    pairs = count_clusters(inverted.features_nD, inverted.labels_n // 2, (N + 1) // 2, inputs.seed)
    result.metrics |= {
        interpretation("clusters_of_pairs"): _mean(
            _counts(clusters.count if clusters else None for clusters in pairs)
        ),
        CLUSTERS: _mean(columns["inverted: features"]),
        interpretation("clusters_hdbscan"): _mean(columns["inverted: HDBSCAN"]),
    }
    columns |= _embed(inputs, result)
    path = draw_cluster_counts(
        torch.tensor(list(columns.values())),
        method_names=list(columns),
        class_names=inputs.class_names,
        path=inputs.figures / "clusters",
        title=f"{inputs.name}: clusters per class",
    )
    caption = "clusters per class: in the features, by HDBSCAN alone, and in t-SNE"
    result.figures.append((path, caption))
    return result


def _record_classes(
    inputs: StudyInput, result: StudyResult, found: tuple[ClassClusters | None, ...]
) -> None:
    present = {
        label: clusters
        for label, clusters in zip(inputs.class_names, found, strict=True)
        if clusters is not None
    }
    result.metrics |= {
        interpretation("clusters_class", label): float(clusters.count)
        for label, clusters in present.items()
    }
    if present:
        columns: dict[str, list[float]] = {
            "silhouette": [clusters.silhouette for clusters in present.values()],
            "silhouette_level": [clusters.silhouette_level for clusters in present.values()],
            "classes_of_two_clusters": [clusters.count == 2 for clusters in present.values()],
        }
        result.metrics |= {
            interpretation(name): sum(values) / len(values) for name, values in columns.items()
        }


def _embed(inputs: StudyInput, result: StudyResult) -> dict[str, Counts]:
    """Embed a stratified subset of the inverted samples, and draw and measure the embeddings.

    Returns:
        For each perplexity the clusters that HDBSCAN finds in the embedding of the first seed.
    """
    options, inverted = inputs.options, inputs.inverted
    size = min(options.embedded, len(inverted))
    subset = inverted.where(stratified_indices(inverted.labels_n, size, inputs.seed))
    seeds = list(options.embedding_seeds)
    runs = embedding_stability(
        subset.features_nD,
        perplexities=list(options.perplexities),
        seeds=seeds,
        processes=torch.get_num_threads(),
    )
    columns = {}
    for run in runs:
        counts = [
            _counts(clusters_in_embedding(e_n2, subset.labels_n, inputs.N))
            for e_n2 in run.embeddings_Sn2
        ]
        perplexity = f"{run.perplexity:g}"
        columns[f"t-SNE {perplexity}"] = counts[0]
        result.metrics |= {
            interpretation("clusters_tsne", perplexity): _mean(
                [_mean(of_seed) for of_seed in counts]
            ),
            interpretation("tsne_overlap", perplexity): run.overlap,
            interpretation("tsne_trustworthiness", perplexity): run.trustworthiness,
        }
    result.metrics[interpretation("tsne_overlap_by_chance")] = runs[0].overlap_by_chance
    path = draw_tsne(
        runs,
        label_n=subset.labels_n,
        seeds=seeds,
        class_names=inputs.class_names,
        path=inputs.figures / "tsne",
        title=f"{inputs.name}: t-SNE of inverted features",
    )
    caption = "t-SNE of the same inverted samples: one column per perplexity, one row per seed"
    result.figures.append((path, caption))
    return columns


def _counts(counts: Iterable[int | None]) -> Counts:
    return [math.nan if count is None else float(count) for count in counts]


def _mean(counts: Counts) -> float:
    present = [count for count in counts if not math.isnan(count)]
    return sum(present) / len(present) if present else math.nan
