"""t-SNE of features, and how stable it is over seeds and perplexities.

t-SNE (van der Maaten and Hinton 2008) preserves neighbours, but not distances, densities or sizes,
and depends on its perplexity and its random start. Claims about an embedding, such as those of
Suhail, Tang and Sethi (2024, arXiv 2411.17777, section 5.1 and Fig. 3), are therefore checked with
several perplexities and seeds. Clusters are counted in the features (`clusters.py`).

Every embedding starts at random positions. The default of scikit-learn, the first two principal
components, gives the same picture for every seed (100 % common neighbours), which would say nothing
about the data.

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

MAX_FEATURES = 50
"""With more features, their first principal components are used, as the authors of t-SNE do."""
NEIGHBOURS = 10


@dataclass(frozen=True)
class EmbeddingStability:
    """Embeddings of one set of samples at one perplexity, and their agreement.

    Attributes:
        perplexity: About the number of neighbours of each sample that t-SNE preserves.
        embeddings_Sn2: One embedding per seed.
        overlap: Share of the `NEIGHBOURS` nearest neighbours of a sample that two embeddings have
            in common, 0 to 1, mean over samples and pairs of seeds; NaN for a single seed.
        overlap_by_chance: The same for two unrelated embeddings: k / (n - 1).
        trustworthiness: Venna and Kaski 2001; 1 if no neighbour in the embedding is far away in the
            features. Mean over seeds.
        trustworthiness_by_chance: Trustworthiness of the first embedding with its points shuffled
            among the samples; about 0.5.
    """

    perplexity: float
    embeddings_Sn2: Tensor
    overlap: float
    overlap_by_chance: float
    trustworthiness: float
    trustworthiness_by_chance: float


def check_perplexities(perplexities: Sequence[float], samples: int) -> None:
    """Check that perplexities are from 1 to below a third of the number of samples.

    t-SNE uses three times as many neighbours of each sample as its perplexity.

    Raises:
        InputError: for the first perplexity that is too large or below 1.
    """
    for perplexity in perplexities:
        if not 1 <= perplexity < samples / 3:
            raise InputError(
                f"interpret.perplexities={perplexity:g}: must be from 1 to below "
                f"{samples / 3:.4g}, a third of the {samples} samples. "
                "Choose a smaller perplexity or more samples"
            )


def embed(features_nD: Tensor, perplexity: float, seed: int) -> Tensor:
    """Compute a Barnes-Hut t-SNE of features [n, D]: points [n, 2].

    With more than `MAX_FEATURES` features, their principal components are used. It runs in one
    thread, so the result is the same on any number of cores. On shared cores the busy waiting of
    OpenMP made it seven times slower.

    Raises:
        InputError: if the perplexity does not suit the number of samples, or all features are
            equal.
    """
    check_perplexities([perplexity], len(features_nD))
    features_nD = _reduced(features_nD)
    with threadpool_limits(1):
        tsne = TSNE(perplexity=perplexity, init="random", random_state=seed, n_jobs=1)
        return torch.from_numpy(tsne.fit_transform(features_nD.numpy()))


def embedding_stability(
    features_nD: Tensor, perplexities: Sequence[float], seeds: Sequence[int], processes: int = 1
) -> tuple[EmbeddingStability, ...]:
    """Embed samples with each perplexity and seed, and compare the embeddings of each perplexity.

    Args:
        features_nD: Features; 1,000 samples take about 5 seconds per embedding on one core.
        perplexities: Each from 1 to below n / 3.
        seeds: Seeds of the random starts.
        processes: Number of embeddings computed in parallel; it does not change the result.

    Raises:
        InputError: if a perplexity does not suit the number of samples, or there are too few
            samples to compare neighbours.
    """
    n = len(features_nD)
    if n <= 2 * NEIGHBOURS:
        raise InputError(
            f"samples={n}: too few to compare {NEIGHBOURS} neighbours of each sample. "
            f"Use more than {2 * NEIGHBOURS}"
        )
    check_perplexities(perplexities, n)
    features_nD = _reduced(features_nD)
    work = [
        delayed(embed)(features_nD, perplexity, seed)
        for perplexity in perplexities
        for seed in seeds
    ]
    embeddings_PSn2 = torch.stack(Parallel(n_jobs=processes)(work)).unflatten(
        0, (len(perplexities), len(seeds))
    )
    return tuple(
        _compared(features_nD, float(perplexity), embeddings_Sn2)
        for perplexity, embeddings_Sn2 in zip(perplexities, embeddings_PSn2, strict=True)
    )


def _reduced(features_nD: Tensor) -> Tensor:
    if features_nD.shape[1] <= MAX_FEATURES:
        return features_nD
    return Projection.fit(features_nD).encode(features_nD, min(MAX_FEATURES, len(features_nD)))


def neighbour_overlap(a_nk: Tensor, b_nk: Tensor) -> float:
    """Return the share of k neighbours (distinct indices) in both lists, mean over samples."""
    return float((a_nk[:, :, None] == b_nk[:, None, :]).any(dim=2).float().mean())


def _compared(features_nD: Tensor, perplexity: float, embeddings_Sn2: Tensor) -> EmbeddingStability:
    n = len(features_nD)
    neighbours = [_neighbours(e_n2) for e_n2 in embeddings_Sn2]
    overlaps = [neighbour_overlap(a_nk, b_nk) for a_nk, b_nk in combinations(neighbours, 2)]
    shuffled_n = random_order(n, 0)
    trust = [_trustworthiness(features_nD, e_n2) for e_n2 in embeddings_Sn2]
    return EmbeddingStability(
        perplexity=perplexity,
        embeddings_Sn2=embeddings_Sn2,
        overlap=sum(overlaps) / len(overlaps) if overlaps else math.nan,
        overlap_by_chance=NEIGHBOURS / (n - 1),
        trustworthiness=sum(trust) / len(trust),
        trustworthiness_by_chance=_trustworthiness(features_nD, embeddings_Sn2[0][shuffled_n]),
    )


def _neighbours(e_n2: Tensor) -> Tensor:
    return torch.from_numpy(
        NearestNeighbors(n_neighbors=NEIGHBOURS).fit(e_n2.numpy()).kneighbors(return_distance=False)
    )


def _trustworthiness(features_nD: Tensor, e_n2: Tensor) -> float:
    return float(trustworthiness(features_nD.numpy(), e_n2.numpy(), n_neighbors=NEIGHBOURS))
