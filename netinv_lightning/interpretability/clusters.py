"""How many clusters the samples of one class form (paper S2 section 5.1: "two clusters" a class, more with a higher cosine weight;
A3-7).

They are counted in the features, because t-SNE tears single clouds apart; `clusters_in_embedding` counts what it shows, to be set
beside. Every procedure that looks for clusters finds some, so two questions decide whether they are real:

1. Is the silhouette above that of surrogates, Gaussian clouds with the mean and the covariance of the class? (In the manner of
   SigClust, Liu et al. 2008.) Skewed or curved clouds, such as features after a ReLU, pass this with one mode.
2. Is there a gap between the clusters? One half of the samples is clustered, the other half is projected on the line through two
   centres, and its dip (Hartigan & Hartigan 1985) has to be greater than that of a single mode. Clusters without a gap are one.

Shape suffixes: n samples, D features, P principal components, K clusters, S surrogates, x different values in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform
from sklearn.cluster import HDBSCAN, KMeans
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from netinv_lightning.interpretability.projection import Projection

Array = NDArray[np.float64]
Labels = NDArray[np.int32]

LEAST_SAMPLES, MOST_SAMPLES = 20, 500
"""Of a class: fewer are not counted, of more a random choice is."""
MOST_CLUSTERS = 6
SURROGATES = 19
"""A silhouette above those of all 19 has p = 0.05."""
VARIANCE = 0.95
"""Share of a class's variance that the components hold in which k-means and HDBSCAN look for clusters."""
SMALLEST_CLUSTER = 0.05
"""Of HDBSCAN, as a share of the class's samples, and at least 5 of them."""
DIP_SAMPLES = (8, 15, 30, 60, 120, 250)
DIP_LEVEL = (0.436, 0.460, 0.485, 0.498, 0.516, 0.522)
"""sqrt(n) times the dip that 5 % of the sets of n uniform numbers exceed, the single mode whose dip is greatest; from 7,000 sets
and more of each size. The published table has 0.0370 for n = 200."""


@dataclass(frozen=True)
class ClassClusters:
    """The clusters of one class.

    Attributes:
        samples: How many were looked at.
        count: The verdict: the clusters with a gap between them, in both halves; 1 unless `silhouette` is above `silhouette_level`.
        silhouette_clusters: The number of clusters, 2 to `MOST_CLUSTERS`, whose k-means has the greatest silhouette.
        silhouette: That silhouette, -1 to 1 (Rousseeuw 1987).
        silhouettes_S: The greatest silhouette of each surrogate.
        halves: How many of the `silhouette_clusters` have gaps in each half, clustered by the other.
        hdbscan_clusters: Clusters that HDBSCAN finds; 0 where it takes all for noise, which is its way to say that there is one.
        hdbscan_noise: Share of the samples that it leaves out.
    """

    samples: int
    count: int
    silhouette_clusters: int
    silhouette: float
    silhouettes_S: Tensor
    halves: tuple[int, int]
    hdbscan_clusters: int
    hdbscan_noise: float

    @property
    def silhouette_level(self) -> float:
        """The silhouette that the surrogates, which have one mode, exceed with p = 1 / (S + 1) = 0.05."""
        return float(self.silhouettes_S.max())

    @property
    def p_value(self) -> float:
        """Of the silhouette against the surrogates, 1 / (S + 1) to 1."""
        return (1 + int((self.silhouettes_S >= self.silhouette).sum())) / (
            1 + len(self.silhouettes_S)
        )


def count_clusters(
    features_nD: Tensor, labels_n: Tensor, num_classes: int, seed: int
) -> tuple[ClassClusters | None, ...]:
    """Counts the clusters of each class in the features (A3-7).

    Taken for one are clusters of less than about a tenth of their class, such as touch without a gap, and such as are apart only along
    a direction in which the class is narrow (k-means does not cut there; `hdbscan_clusters` may tell). Taken for two is a cloud that
    fills an arc of more than about 120 degrees evenly: from the side its ends are piles.

    Args:
        features_nD: Features.
        labels_n: Labels in 0 to num_classes - 1.
        num_classes: N.
        seed: Of the choice of samples, the surrogates, the halves and the starts of k-means.

    Returns:
        One for each class; None for a class of fewer than `LEAST_SAMPLES`.
    """
    with threadpool_limits(
        1
    ):  # so it is the same on any number of cores; more threads make k-means of so few samples no faster
        return tuple(
            _clusters_of_class(features_nD[labels_n == label], seed) for label in range(num_classes)
        )


def clusters_in_embedding(
    e_n2: Tensor, labels_n: Tensor, num_classes: int
) -> tuple[int | None, ...]:
    """What the eye counts: the clusters of each class that HDBSCAN, which may find a single one, sees in an embedding [n, 2].

    Two round piles count as two from about 6 of their standard deviations between their centres.

    Returns:
        One for each class; None for a class of fewer than `LEAST_SAMPLES`.
    """
    parts = (e_n2[labels_n == label].double().numpy() for label in range(num_classes))
    return tuple(
        max(1, _hdbscan(part_n2, one_allowed=True)[0]) if len(part_n2) >= LEAST_SAMPLES else None
        for part_n2 in parts
    )


def dip(values_n: Array) -> float:
    """Hartigan's dip: the least distance of the empirical distribution function to that of any single mode.

    From 1 / (2 n) for a single mode to 0.25 for two equal piles. Between the ends of the modal interval, where the distribution
    function turns from convex to concave, the nearest such function is straight; the interval shrinks until it is found.
    """
    x_x, count_x = np.unique(values_n, return_counts=True)
    after_x = count_x.cumsum() / len(
        values_n
    )  # the distribution function's value at each, and just before
    before_x = after_x - count_x / len(values_n)
    first, last, twice = 0, len(x_x) - 1, 1 / len(values_n)
    while first < last:
        part = slice(first, last + 1)
        x, after, before = x_x[part], after_x[part], before_x[part]
        below, above = _convex_hull(x, before), _convex_hull(x, -after)
        convex, concave = (
            np.interp(x, x[below], before[below]),
            np.interp(x, x[above], after[above]),
        )
        widest = int((concave - convex).argmax())
        gap = float(concave[widest] - convex[widest])
        if gap <= twice:
            break
        low, high = int(below[below <= widest].max()), int(above[above >= widest].min())
        if low == 0 and high == len(x) - 1:
            return gap / 2
        twice = max(
            twice,
            (after - convex)[:low].max(initial=0),
            (concave - before)[high + 1 :].max(initial=0),
        )
        first, last = first + low, first + high
    return twice / 2


def _clusters_of_class(features_nD: Tensor, seed: int) -> ClassClusters | None:
    if len(features_nD) < LEAST_SAMPLES:
        return None
    random = np.random.default_rng(seed)
    f_nD = features_nD.double().numpy()[random.permutation(len(features_nD))[:MOST_SAMPLES]]
    z_nP = _components(f_nD)
    K, silhouette = _best_kmeans(z_nP, seed)
    found, noise = _hdbscan(z_nP)
    surrogates = [random.standard_normal(z_nP.shape) * z_nP.std(axis=0) for _ in range(SURROGATES)]
    silhouettes_S = torch.tensor(
        [_best_kmeans(surrogate_nP, seed)[1] for surrogate_nP in surrogates]
    )
    half, other = f_nD[::2], f_nD[1::2]
    halves = (_clusters_with_gaps(half, other, K, seed), _clusters_with_gaps(other, half, K, seed))
    return ClassClusters(
        samples=len(f_nD),
        count=min(halves) if silhouette > float(silhouettes_S.max()) else 1,
        silhouette_clusters=K,
        silhouette=silhouette,
        silhouettes_S=silhouettes_S,
        halves=halves,
        hdbscan_clusters=found,
        hdbscan_noise=noise,
    )


def _components(f_nD: Array) -> Array:
    """Uncorrelated coordinates around the mean; one of zeros for samples that are all alike."""
    features_nD = torch.from_numpy(f_nD)
    if bool((features_nD == features_nD[0]).all()):
        return np.zeros((len(f_nD), 1))
    projection = Projection.fit(features_nD)
    return (
        projection.encode(features_nD.float(), projection.components_for(VARIANCE)).double().numpy()
    )


def _kmeans(z_nP: Array, K: int, seed: int) -> KMeans:
    return KMeans(K, n_init=2, random_state=seed).fit(z_nP)


def _best_kmeans(z_nP: Array, seed: int) -> tuple[int, float]:
    """The number of clusters of the greatest silhouette, and that silhouette; 1 and 0 for samples that are all alike."""
    distance_nn = squareform(pdist(z_nP))
    most = min(MOST_CLUSTERS, len(np.unique(z_nP, axis=0)))
    scores = {
        K: _silhouette(distance_nn, _kmeans(z_nP, K, seed).labels_, K) for K in range(2, most + 1)
    }
    return max(scores.items(), key=lambda item: item[1]) if scores else (1, 0.0)


def _silhouette(distance_nn: Array, cluster_n: Labels, K: int) -> float:
    """Rousseeuw 1987, as scikit-learn's `silhouette_score`, which would sort out the clusters again for each K."""
    own_nK = np.eye(K)[cluster_n]
    count_K = own_nK.sum(axis=0)
    to_nK = distance_nn @ own_nK
    size_n = count_K[cluster_n]
    within_n = to_nK[own_nK == 1] / np.maximum(size_n - 1, 1)
    nearest_n = np.where(own_nK == 1, np.inf, to_nK / count_K).min(axis=1)
    score_n = (nearest_n - within_n) / np.maximum(nearest_n, within_n)
    return float(np.where(size_n > 1, score_n, 0.0).mean())


def _hdbscan(z_nP: Array, one_allowed: bool = False) -> tuple[int, float]:
    """Number of clusters and share of noise. If one is allowed, others are found only where they are well apart."""
    smallest = max(5, round(SMALLEST_CLUSTER * len(z_nP)))
    cluster_n = HDBSCAN(
        min_cluster_size=smallest, allow_single_cluster=one_allowed, copy=True
    ).fit_predict(z_nP)
    return int(cluster_n.max()) + 1, float((cluster_n < 0).mean())


def _clusters_with_gaps(fitted_nD: Array, held_out_nD: Array, K: int, seed: int) -> int:
    """Clusters of the one half that are apart in the other: those without a gap between them, or in a chain of such, are one."""
    K = min(K, len(np.unique(fitted_nD, axis=0)))
    kmeans = _kmeans(fitted_nD, K, seed)
    cluster_n = kmeans.predict(held_out_nD)
    joined_KK = np.eye(K)
    for a, b in combinations(range(K), 2):
        pair_nD = held_out_nD[(cluster_n == a) | (cluster_n == b)]
        joined_KK[a, b] = not _has_gap(
            pair_nD @ (kmeans.cluster_centers_[b] - kmeans.cluster_centers_[a])
        )
    return int(connected_components(joined_KK, directed=False, return_labels=False))


def _has_gap(values_n: Array) -> bool:
    n = len(values_n)
    return n >= DIP_SAMPLES[0] and dip(values_n) * n**0.5 > float(
        np.interp(n, DIP_SAMPLES, DIP_LEVEL)
    )


def _convex_hull(x_x: Array, y_x: Array) -> NDArray[np.int64]:
    """Indices of the points that the greatest convex function below all points goes through, in order."""
    kept = [0]
    for i in range(1, len(x_x)):
        while len(kept) > 1:
            a, b = kept[-2:]
            if (y_x[b] - y_x[a]) * (x_x[i] - x_x[b]) < (y_x[i] - y_x[b]) * (x_x[b] - x_x[a]):
                break
            kept.pop()
        kept.append(i)
    return np.array(kept)
