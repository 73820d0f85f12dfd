"""Cluster counts: planted clusters, unimodal clouds and Hartigan's dip.

Shape suffixes: n samples, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from sklearn.metrics import silhouette_score
from torch import Tensor

from netinv_lightning.interpretability import clusters
from netinv_lightning.interpretability.clusters import (
    DIP_LEVEL,
    DIP_SAMPLES,
    clusters_in_embedding,
    count_clusters,
    dip,
)

D = 20


def cloud(n: int, seed: int) -> Tensor:
    """Return a Gaussian sample with standard deviations from 3 to 0.2, oblique to the features."""
    source = torch.Generator().manual_seed(seed)
    turn_DD = torch.linalg.qr(torch.randn(D, D, generator=source)).Q
    return torch.randn(n, D, generator=source) * torch.logspace(0.5, -0.7, D) @ turn_DD


def blobs(n: int, count: int, seed: int) -> Tensor:
    """Return `count` such clouds with means 17 apart."""
    return cloud(n, seed) + 12 * torch.eye(D)[torch.arange(n) % count]


def rectified(n: int, seed: int) -> Tensor:
    """Return unimodal features as after a ReLU: correlated, skewed, and half of them zero."""
    return cloud(n, seed).relu()


def curved(n: int, seed: int) -> Tensor:
    """Return a cloud bent around a circle of radius 10, densest in the middle and without a gap."""
    angle_n = 0.8 * torch.randn(n, generator=torch.Generator().manual_seed(seed + 100))
    return 0.3 * cloud(n, seed) + 10 * (
        angle_n.cos()[:, None] * torch.eye(D)[0] + angle_n.sin()[:, None] * torch.eye(D)[1]
    )


def test_planted_clusters_are_counted_per_class() -> None:
    counts = (1, 2, 3)
    f_nD = torch.cat([blobs(200, count, seed) for seed, count in enumerate(counts)])
    found = count_clusters(f_nD, torch.arange(3).repeat_interleave(200), 3, seed=0)
    assert [of.count for of in found if of] == list(counts)
    _, two, three = found
    for of, count in ((two, 2), (three, 3)):
        assert of is not None
        assert (of.samples, of.silhouette_clusters, of.halves, of.hdbscan_clusters) == (
            200,
            count,
            (count, count),
            count,
        )
        assert of.silhouette > of.silhouette_level == float(of.silhouettes_S.max())
        assert of.p_value == pytest.approx(1 / 20)
        assert of.hdbscan_noise < 0.2


@pytest.mark.parametrize("one_mode", [cloud, rectified, curved])
def test_one_mode_is_one_cluster(one_mode: Callable[[int, int], Tensor]) -> None:
    f_nD = torch.cat([one_mode(200, seed) for seed in range(2)])
    found = count_clusters(f_nD, torch.arange(2).repeat_interleave(200), 2, seed=0)
    assert [of.count for of in found if of] == [1, 1]


def test_a_silhouette_above_the_surrogates_is_not_enough() -> None:
    """A cloud without a gap passes the first test, so the second test is necessary."""
    (of,) = count_clusters(curved(300, 0), torch.zeros(300, dtype=torch.long), 1, seed=0)
    assert of is not None
    assert of.silhouette > of.silhouette_level
    assert (of.p_value, of.count) == (pytest.approx(0.05), 1)


def test_counting_is_repeatable_and_uses_no_global_randomness() -> None:
    f_nD, label_n = cloud(60, 0), torch.zeros(60, dtype=torch.long)
    before, before_numpy = torch.get_rng_state(), str(np.random.get_state())
    (first,), (again,), (other,) = (
        count_clusters(f_nD, label_n, 1, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert str(np.random.get_state()) == before_numpy
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first.silhouettes_S, again.silhouettes_S)
    assert (first.silhouette, first.halves) == (again.silhouette, again.halves)
    assert not torch.equal(first.silhouettes_S, other.silhouettes_S)


def test_a_class_of_few_samples_is_not_counted() -> None:
    label_n = torch.tensor([0] * 19 + [2] * 20)
    found = count_clusters(blobs(39, 1, 0), label_n, 4, seed=0)
    assert [of is None for of in found] == [True, True, False, True]
    assert [of is None for of in clusters_in_embedding(blobs(39, 1, 0)[:, :2], label_n, 4)] == [
        True,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("images", [1, 2, 3])
def test_a_collapsed_class_has_one_cluster_per_distinct_image(images: int) -> None:
    f_nD = cloud(images, 0)[torch.arange(60) % images]
    (of,) = count_clusters(f_nD, torch.zeros(60, dtype=torch.long), 1, seed=0)
    assert of is not None
    assert of.count == images
    assert of.silhouette == pytest.approx(float(images > 1))


def test_a_large_class_is_subsampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "MAX_SAMPLES", 80)
    f_nD = torch.cat(
        [blobs(200, 1, 0), blobs(200, 1, 0) + 30]
    )  # the second cluster comes after the first
    (of,) = count_clusters(f_nD, torch.zeros(400, dtype=torch.long), 1, seed=0)
    assert of is not None
    assert (of.samples, of.count) == (80, 2)


def test_the_silhouette_equals_that_of_scikit_learn() -> None:
    z_nD, cluster_n = cloud(50, 0).double().numpy(), np.arange(50, dtype=np.int32) % 4
    cluster_n[cluster_n == 3] = 2
    cluster_n[7] = 3  # a cluster of one sample has silhouette 0
    distance_nn = np.linalg.norm(z_nD[:, None] - z_nD[None], axis=2)
    assert clusters._silhouette(distance_nn, cluster_n, 4) == pytest.approx(
        silhouette_score(z_nD, cluster_n)
    )


def test_clusters_in_an_embedding_are_counted() -> None:
    centre_n2 = torch.tensor([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]])
    points_n2 = (
        torch.randn(180, 2, generator=torch.Generator().manual_seed(0))
        + centre_n2[torch.arange(180) % 3]
    )
    assert clusters_in_embedding(points_n2, torch.zeros(180, dtype=torch.long), 1) == (3,)
    assert clusters_in_embedding(points_n2, torch.arange(180) % 3, 3) == (1, 1, 1)


# The dip


def dip_by_linear_programs(values_n: np.ndarray) -> float:
    """Compute the dip by its definition.

    The dip is the smallest distance, over all modes, to a function that is convex below the mode
    and concave above it.
    """
    x, count = np.unique(values_n, return_counts=True)
    after = count.cumsum() / len(values_n)
    before, n = after - count / len(values_n), len(x)
    above, distance = (
        n,
        n + 1,
    )  # unknowns: the function at each value, just above the mode, and the distance

    def least(mode: int) -> float:
        rows: list[np.ndarray] = []
        bounds: list[float] = []

        def at_most(terms: dict[int, float], bound: float) -> None:
            row = np.zeros(n + 2)
            row[list(terms)] = list(terms.values())
            rows.append(row)
            bounds.append(bound)

        near = [(i, level[i]) for i in range(n) if i != mode for level in (before, after)]
        for i, level in [*near, (mode, before[mode]), (above, after[mode])]:
            at_most({i: 1, distance: -1}, level)
            at_most({i: -1, distance: -1}, -level)
        at_most({mode: 1, above: -1}, 0)
        for part, where, sign in (
            (list(range(mode + 1)), x[: mode + 1], 1),
            ([above, *range(mode + 1, n)], x[mode:], -1),
        ):
            for i, j in pairwise(part):
                at_most({i: 1, j: -1}, 0)
            for k in range(1, len(part) - 1):
                left, right = 1 / (where[k] - where[k - 1]), 1 / (where[k + 1] - where[k])
                at_most(
                    {
                        part[k - 1]: -sign * left,
                        part[k]: sign * (left + right),
                        part[k + 1]: -sign * right,
                    },
                    0,
                )
        solved = linprog([0] * (n + 1) + [1], A_ub=np.array(rows), b_ub=bounds, bounds=(0, 1))
        return float(solved.fun)

    return min(least(mode) for mode in range(n))


@pytest.mark.parametrize("seed", range(6))
def test_the_dip_is_the_distance_to_the_nearest_unimodal_one(seed: int) -> None:
    source = np.random.default_rng(seed)
    uniform = source.random(9)
    for values_n in (
        uniform,
        np.concatenate([uniform, 3 + source.random(5)]),
        np.round(8 * source.random(12)),
    ):
        assert dip(values_n) == pytest.approx(dip_by_linear_programs(values_n), abs=1e-7)


def test_dips_by_hand() -> None:
    assert dip(np.arange(10.0)) == pytest.approx(1 / 20)  # evenly spaced: half a step
    assert dip(np.array([0.0, 1.0] * 20)) == pytest.approx(0.25)  # two equal modes
    assert dip(np.zeros(5)) == pytest.approx(1 / 10)


def test_five_percent_of_uniform_sets_exceed_the_dip_level() -> None:
    source, n = np.random.default_rng(0), 60
    exceeding = sum(
        dip(source.random(n)) * n**0.5 > DIP_LEVEL[DIP_SAMPLES.index(n)] for _ in range(400)
    )
    assert 0.02 < exceeding / 400 < 0.09  # three standard errors
    gaussian = sum(
        dip(source.standard_normal(n)) * n**0.5 > DIP_LEVEL[DIP_SAMPLES.index(n)]
        for _ in range(100)
    )
    assert gaussian <= 5  # the uniform distribution is the worst case
