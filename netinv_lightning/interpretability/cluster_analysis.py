"""How many clusters a class has in the features, and how many t-SNE shows (A3-7, A4-3, A8-3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.data.splits import stratified_indices
from netinv_lightning.interpretability.clusters import (
    ClassClusters,
    clusters_in_embedding,
    count_clusters,
)
from netinv_lightning.interpretability.embedding import EmbeddingStability, embedding_stability
from netinv_lightning.interpretability.features import FeatureSet
from netinv_lightning.interpretability.figures import cluster_counts, tsne_panels
from netinv_lightning.interpretability.study_input import StudyInput, StudyResult
from netinv_lightning.metric_names import CLUSTERS, interpretation

Counts = list[float]
"""Clusters of each class; NaN for a class of too few samples."""


def analyse_clusters(inputs: StudyInput) -> StudyResult:
    result, inverted, N = StudyResult(), inputs.inverted, inputs.N
    columns: dict[str, Counts] = {}
    for origin, samples in {"inverted": inverted, "test": inputs.test}.items():
        if samples is None:
            continue
        found = count_clusters(samples.features_nD, samples.labels_n, N, inputs.seed)
        columns[f"{origin}: features"] = [
            _number(None if of_class is None else of_class.count) for of_class in found
        ]
        if origin == "inverted":
            columns["inverted: HDBSCAN"] = [
                _number(None if of_class is None else max(1, of_class.hdbscan_clusters))
                for of_class in found
            ]
            _tell(inputs, result, found)
        else:
            result.metrics[interpretation("clusters_test")] = _mean(columns[f"{origin}: features"])
    pairs = count_clusters(inverted.features_nD, inverted.labels_n // 2, (N + 1) // 2, inputs.seed)
    result.metrics[interpretation("clusters_of_pairs")] = _mean(
        [_number(None if pair is None else pair.count) for pair in pairs]
    )
    result.metrics[CLUSTERS] = _mean(columns["inverted: features"])
    result.metrics[interpretation("clusters_hdbscan")] = _mean(columns["inverted: HDBSCAN"])
    columns |= _embed(inputs, result)
    path = cluster_counts(
        torch.tensor(list(columns.values())),
        list(columns),
        inputs.class_names,
        inputs.figures / "clusters",
        f"{inputs.name}: clusters a class",
    )
    result.figures.append(
        (path, "clusters of each class: in the features, by HDBSCAN alone, and as t-SNE shows them")
    )
    return result


def _tell(inputs: StudyInput, result: StudyResult, found: tuple[ClassClusters | None, ...]) -> None:
    present = [of_class for of_class in found if of_class is not None]
    for label, of_class in zip(inputs.class_names, found, strict=True):
        if of_class is not None:
            result.metrics[interpretation("clusters_class", label)] = float(of_class.count)
    if present:
        result.metrics[interpretation("silhouette")] = sum(
            of_class.silhouette for of_class in present
        ) / len(present)
        result.metrics[interpretation("silhouette_level")] = sum(
            of_class.silhouette_level for of_class in present
        ) / len(present)
        result.metrics[interpretation("classes_of_two_clusters")] = sum(
            of_class.count == 2 for of_class in present
        ) / len(present)


def _embed(inputs: StudyInput, result: StudyResult) -> dict[str, Counts]:
    """t-SNE of a stratified choice of the inverted samples; gives what HDBSCAN counts in the plane of the first seed."""
    options, inverted = inputs.options, inputs.inverted
    chosen = inverted.where(
        stratified_indices(inverted.labels_n, min(options.embedded, len(inverted)), inputs.seed)
    )
    runs = embedding_stability(
        chosen.features_nD,
        list(options.perplexities),
        list(options.embedding_seeds),
        torch.get_num_threads(),
    )
    columns = {}
    for run in runs:
        counts = [
            [_number(count) for count in clusters_in_embedding(e_n2, chosen.labels_n, inputs.N)]
            for e_n2 in run.embeddings_Sn2
        ]
        columns[f"t-SNE {run.perplexity:g}"] = counts[0]
        result.metrics |= {
            interpretation("clusters_tsne", f"{run.perplexity:g}"): _mean(
                [_mean(of_seed) for of_seed in counts]
            ),
            interpretation("tsne_overlap", f"{run.perplexity:g}"): run.overlap,
            interpretation("tsne_trustworthiness", f"{run.perplexity:g}"): run.trustworthiness,
        }
    result.metrics[interpretation("tsne_overlap_by_chance")] = runs[0].overlap_by_chance
    _draw(inputs, result, chosen, torch.stack([run.embeddings_Sn2 for run in runs], dim=1), runs)
    return columns


def _draw(
    inputs: StudyInput,
    result: StudyResult,
    chosen: FeatureSet,
    e_SPn2: torch.Tensor,
    runs: Sequence[EmbeddingStability],
) -> None:
    path = tsne_panels(
        e_SPn2, chosen.labels_n, [run.perplexity for run in runs], list(inputs.options.embedding_seeds), [run.overlap for run in runs],
        [run.trustworthiness for run in runs], runs[0].overlap_by_chance, inputs.class_names, inputs.figures / "tsne",
        f"{inputs.name}: t-SNE of inverted features", [run.trustworthiness_by_chance for run in runs],
    )  # fmt: skip
    result.figures.append(
        (path, "t-SNE of the same inverted samples, a column a perplexity, a row a seed")
    )


def _number(count: int | None) -> float:
    return math.nan if count is None else float(count)


def _mean(counts: Counts) -> float:
    present = [count for count in counts if not math.isnan(count)]
    return sum(present) / len(present) if present else math.nan
