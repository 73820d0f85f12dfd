"""Number of clusters that the samples of one class form in the features.

Suhail, Tang and Sethi (2024, arXiv 2411.17777, section 5.1) see "two clusters" per class in t-SNE,
and more with a higher cosine weight. Here clusters are counted in the features, because t-SNE
splits single clouds; `clusters_in_embedding` counts the clusters in the embedding for comparison.
Every clustering algorithm finds some clusters, so two tests decide whether they are real:

1. Is the silhouette above that of surrogates, Gaussian clouds with the mean and the covariance of
the class? (Similar to SigClust, Liu et al. 2008.) Skewed or curved clouds with one mode, such as
features after a ReLU, can pass this test.
2. Is there a gap between the clusters? One half of the samples is clustered. The other half is
projected onto the line through two centres, and its dip (Hartigan and Hartigan 1985) must exceed
that of a unimodal distribution. Clusters without a gap count as one.

Shape suffixes: n samples, D features, P principal components, K clusters, S surrogates, x distinct
values in ascending order.
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

MIN_SAMPLES, MAX_SAMPLES = 20, 500
"""Limits per class: the clusters of a smaller class are not counted, a larger one is subsampled."""
MAX_CLUSTERS = 6
SURROGATES = 19
"""Number of surrogates per class. A silhouette above those of all 19 has p = 0.05."""
VARIANCE = 0.95
"""Share of a class's variance in the components in which k-means and HDBSCAN search for clusters.
"""
SMALLEST_CLUSTER = 0.05
"""Smallest cluster of HDBSCAN, as a share of the samples of the class, and at least 5 samples."""
DIP_SAMPLES = (8, 15, 30, 60, 120, 250)
DIP_LEVEL = (0.436, 0.460, 0.485, 0.498, 0.516, 0.522)
"""Value of sqrt(n) times the dip that 5 % of sets of n uniform numbers exceed. The uniform
distribution is the unimodal one with the largest dip. The values were computed from at least 7,000
sets of each size; the published table has a dip of 0.0370 for n = 200.
"""


@dataclass(frozen=True)
class ClassClusters:
    """The clusters of one class.

    Attributes:
        samples: Number of samples used.
        count: The verdict: number of clusters with gaps between them in both halves; 1 unless
            `silhouette` is above `silhouette_level`.
        silhouette_clusters: Number of clusters, 2 to `MAX_CLUSTERS`, for which k-means has the
            largest silhouette.
        silhouette: That silhouette, -1 to 1 (Rousseeuw 1987).
        silhouettes_S: Largest silhouette of each surrogate.
        halves: Number of clusters with gaps in each half, when the other half is clustered.
        hdbscan_clusters: Clusters that HDBSCAN finds; 0 if it labels all samples as noise, which
            happens if there is one cluster.
        hdbscan_noise: Share of the samples that HDBSCAN labels as noise.
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
        """Silhouette that unimodal surrogates exceed with p = 1 / (S + 1) = 0.05."""
        return float(self.silhouettes_S.max())

    @property
    def p_value(self) -> float:
        """p of the silhouette against the surrogates, 1 / (S + 1) to 1."""
        return (1 + int((self.silhouettes_S >= self.silhouette).sum())) / (
            1 + len(self.silhouettes_S)
        )


def count_clusters(
    features_nD: Tensor, labels_n: Tensor, num_classes: int, seed: int
) -> tuple[ClassClusters | None, ...]:
    """Count the clusters of each class in the features.

    Counted as one: clusters smaller than about a tenth of their class, clusters that touch without
    a gap, and clusters that are separated only along a direction in which the class is narrow
    (k-means does not split there; `hdbscan_clusters` may show them). Counted as two: a cloud that
    evenly fills an arc of more than about 120 degrees, because its ends are dense in projection.

    Args:
        features_nD: Features.
        labels_n: Labels in 0 to num_classes - 1.
        num_classes: N.
        seed: Seed of subsampling, surrogates, halves and initial centres of k-means.

    Returns:
        One entry per class; None for a class with fewer than `MIN_SAMPLES` samples.
    """
    # One thread gives the same result on any number of cores; more would not be faster.
    with threadpool_limits(1):
        return tuple(
            _clusters_of_class(features_nD[labels_n == label], seed) for label in range(num_classes)
        )


def clusters_in_embedding(
    e_n2: Tensor, labels_n: Tensor, num_classes: int
) -> tuple[int | None, ...]:
    """Count the visible clusters of each class in an embedding [n, 2] by HDBSCAN.

    Two round clusters are counted as two if their centres are about 6 standard deviations apart.

    Returns:
        One entry per class; None for a class with fewer than `MIN_SAMPLES` samples.
    """
    parts = (e_n2[labels_n == label].double().numpy() for label in range(num_classes))
    return tuple(
        max(1, _hdbscan(part_n2, one_allowed=True)[0]) if len(part_n2) >= MIN_SAMPLES else None
        for part_n2 in parts
    )


def dip(values_n: Array) -> float:
    """Compute Hartigan's dip: distance of the distribution function to the nearest unimodal one.

    It ranges from 1 / (2 n) for a single mode to 0.25 for two equal, distant modes. Between the
    ends of the modal interval, where the distribution function changes from convex to concave, the
    nearest unimodal function is linear; the interval shrinks until it is found.
    """
    x_x, count_x = np.unique(values_n, return_counts=True)
    # Values of the distribution function at each point, and just before it.
    after_x = count_x.cumsum() / len(values_n)
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
    if len(features_nD) < MIN_SAMPLES:
        return None
    random = np.random.default_rng(seed)
    f_nD = features_nD.double().numpy()[random.permutation(len(features_nD))[:MAX_SAMPLES]]
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
    """Return uncorrelated, centred coordinates; one column of zeros if all samples are equal."""
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
    """Return the number of clusters with the largest silhouette, and that silhouette.

    They are 1 and 0 if all samples are equal.
    """
    distance_nn = squareform(pdist(z_nP))
    most = min(MAX_CLUSTERS, len(np.unique(z_nP, axis=0)))
    scores = {
        K: _silhouette(distance_nn, _kmeans(z_nP, K, seed).labels_, K) for K in range(2, most + 1)
    }
    return max(scores.items(), key=lambda item: item[1]) if scores else (1, 0.0)


def _silhouette(distance_nn: Array, cluster_n: Labels, K: int) -> float:
    """Return the mean silhouette (Rousseeuw 1987), as scikit-learn but without label checks."""
    own_nK = np.eye(K)[cluster_n]
    count_K = own_nK.sum(axis=0)
    to_nK = distance_nn @ own_nK
    size_n = count_K[cluster_n]
    within_n = to_nK[own_nK == 1] / np.maximum(size_n - 1, 1)
    nearest_n = np.where(own_nK == 1, np.inf, to_nK / count_K).min(axis=1)
    score_n = (nearest_n - within_n) / np.maximum(nearest_n, within_n)
    return float(np.where(size_n > 1, score_n, 0.0).mean())


def _hdbscan(z_nP: Array, one_allowed: bool = False) -> tuple[int, float]:
    """Return the number of clusters and the share of noise.

    With `one_allowed`, more than one cluster is found only if they are well separated.
    """
    smallest = max(5, round(SMALLEST_CLUSTER * len(z_nP)))
    cluster_n = HDBSCAN(
        min_cluster_size=smallest, allow_single_cluster=one_allowed, copy=True
    ).fit_predict(z_nP)
    return int(cluster_n.max()) + 1, float((cluster_n < 0).mean())


def _clusters_with_gaps(fitted_nD: Array, held_out_nD: Array, K: int, seed: int) -> int:
    """Count the clusters of one half that are separated in the other half.

    Clusters without a gap between them, also in a chain, count as one.
    """
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
    """Return the indices of the points on the lower convex hull, in order."""
    hull = [0]
    for i in range(1, len(x_x)):
        while len(hull) > 1:
            a, b = hull[-2:]
            if (y_x[b] - y_x[a]) * (x_x[i] - x_x[b]) < (y_x[i] - y_x[b]) * (x_x[b] - x_x[a]):
                break
            hull.pop()
        hull.append(i)
    return np.array(hull)
