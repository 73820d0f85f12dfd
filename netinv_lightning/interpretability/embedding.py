"""t-SNE of features, and how much of it is more than the luck of one picture (paper S2 section 5.1, Fig. 3; A4-3, A3-7).

t-SNE (van der Maaten & Hinton 2008) keeps neighbours, not distances, densities or sizes, and depends on its perplexity and on its
random start. So a claim about an embedding is made over several of both. Clusters are counted in the features (`clusters.py`).

Every embedding starts at random places. scikit-learn's default, a start at the first two principal components, gives one and the
same picture for all seeds (their neighbours agree to 100 %): that agreement would say nothing of the data.

Shape suffixes: n samples, D features, S seeds, k neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from sklearn.manifold import TSNE, trustworthiness
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from netinv_lightning.errors import InputError
from netinv_lightning.interpretability.projection import Projection
from netinv_lightning.training.seeds import random_order

MOST_FEATURES = 50
"""More features than these are first brought down to so many principal components, as the authors of t-SNE do."""
NEIGHBOURS = 10


@dataclass(frozen=True)
class EmbeddingStability:
    """Embeddings of one set of samples at one perplexity, and what they share.

    Attributes:
        perplexity: About the number of neighbours that each sample was to keep.
        embeddings_Sn2: One embedding a seed.
        overlap: Share of a sample's `NEIGHBOURS` nearest in one embedding that are so in another, 0 to 1, the mean over samples and
            pairs of seeds; NaN for a single seed.
        overlap_by_chance: What two clouds of points that know nothing of each other reach: k / (n - 1).
        trustworthiness: Venna & Kaski 2001: 1 where no embedded neighbour is far away in the features; the mean over seeds.
        trustworthiness_by_chance: That of the first embedding with its points dealt to other samples; about 0.5.
    """

    perplexity: float
    embeddings_Sn2: Tensor
    overlap: float
    overlap_by_chance: float
    trustworthiness: float
    trustworthiness_by_chance: float


def check_perplexities(perplexities: Sequence[float], samples: int) -> None:
    """Refuses perplexities that t-SNE cannot reach with so many samples; it weighs three times as many neighbours.

    Raises:
        InputError: naming the first.
    """
    for perplexity in perplexities:
        if not 1 <= perplexity < samples / 3:
            raise InputError(
                f"interpret.perplexities={perplexity:g}: must be from 1 to below {samples / 3:.4g}, a third of the {samples} samples; "
                "choose a smaller one or give more samples"
            )


def embed(features_nD: Tensor, perplexity: float, seed: int) -> Tensor:
    """t-SNE of features [n, D], by Barnes-Hut: points [n, 2].

    Of more than `MOST_FEATURES` features it takes the principal components. It works in one thread: so it is the same on any number
    of cores, and on shared cores OpenMP's threads, which wait busily, made it seven times slower.

    Raises:
        InputError: if the perplexity does not fit the number of samples, or all features are the same.
    """
    check_perplexities([perplexity], len(features_nD))
    features_nD = _of_few_features(features_nD)
    with threadpool_limits(1):
        tsne = TSNE(perplexity=perplexity, init="random", random_state=seed, n_jobs=1)
        return torch.from_numpy(tsne.fit_transform(features_nD.numpy()))


def stability(
    features_nD: Tensor, perplexities: Sequence[float], seeds: Sequence[int], processes: int = 1
) -> tuple[EmbeddingStability, ...]:
    """Embeds one set of samples with each perplexity and seed, and compares the embeddings of each perplexity (A3-7).

    Args:
        features_nD: Features; 1,000 samples take about 5 seconds an embedding on one core.
        perplexities: Each from 1 to below n / 3.
        seeds: Of the random starts.
        processes: How many embeddings are made at once; they are the same whatever their number.

    Raises:
        InputError: if a perplexity does not fit the number of samples, or these are too few to compare neighbours.
    """
    n = len(features_nD)
    if n <= 2 * NEIGHBOURS:
        raise InputError(
            f"samples={n}: too few to compare {NEIGHBOURS} neighbours of each; give more than {2 * NEIGHBOURS}"
        )
    check_perplexities(perplexities, n)
    features_nD = _of_few_features(features_nD)
    work = [
        delayed(embed)(features_nD, perplexity, seed)
        for perplexity in perplexities
        for seed in seeds
    ]
    made = torch.stack(Parallel(n_jobs=processes)(work)).unflatten(
        0, (len(perplexities), len(seeds))
    )
    return tuple(
        _compared(features_nD, float(perplexity), embeddings_Sn2)
        for perplexity, embeddings_Sn2 in zip(perplexities, made, strict=True)
    )


def _of_few_features(features_nD: Tensor) -> Tensor:
    if features_nD.shape[1] <= MOST_FEATURES:
        return features_nD
    return Projection.fit(features_nD).encode(features_nD, min(MOST_FEATURES, len(features_nD)))


def neighbour_overlap(a_nk: Tensor, b_nk: Tensor) -> float:
    """Share of each sample's k neighbours (indices, none twice) that are in both lists, the mean over samples."""
    return float((a_nk[:, :, None] == b_nk[:, None, :]).any(dim=2).float().mean())


def _compared(features_nD: Tensor, perplexity: float, embeddings_Sn2: Tensor) -> EmbeddingStability:
    n = len(features_nD)
    neighbours = [_neighbours(e_n2) for e_n2 in embeddings_Sn2]
    overlaps = [neighbour_overlap(a_nk, b_nk) for a_nk, b_nk in combinations(neighbours, 2)]
    dealt_n = random_order(n, 0)
    trust = [_trustworthiness(features_nD, e_n2) for e_n2 in embeddings_Sn2]
    return EmbeddingStability(
        perplexity=perplexity,
        embeddings_Sn2=embeddings_Sn2,
        overlap=sum(overlaps) / len(overlaps) if overlaps else math.nan,
        overlap_by_chance=NEIGHBOURS / (n - 1),
        trustworthiness=sum(trust) / len(trust),
        trustworthiness_by_chance=_trustworthiness(features_nD, embeddings_Sn2[0][dealt_n]),
    )


def _neighbours(e_n2: Tensor) -> Tensor:
    return torch.from_numpy(
        NearestNeighbors(n_neighbors=NEIGHBOURS).fit(e_n2.numpy()).kneighbors(return_distance=False)
    )


def _trustworthiness(features_nD: Tensor, e_n2: Tensor) -> float:
    return float(trustworthiness(features_nD.numpy(), e_n2.numpy(), n_neighbors=NEIGHBOURS))
