"""Density and clusters of features against closed forms and planted outliers, and the uncertainty estimate against its formula (A5-6).

Shape suffixes: n images, N classes, D features.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datasets import LOADERS
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.ood.detectors import Known, Seen, gather, look, noise
from netinv_lightning.ood.detectors.density import LEAST_VARIANCE, Cluster, Mixture
from netinv_lightning.ood.detectors.scores import msp, uncertainty

TINY = DataSpec("tiny", 3, 1, 2, (0.0,), (1.0,), ("a", "b", "c"))


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seen_of(features_nD: Tensor) -> Seen:
    return Seen(torch.empty(0), torch.empty(0), features_nD, {})


def known_of(features_nD: Tensor, seed: int = 0) -> Known:
    nothing = seen_of(features_nD[:0])
    classifier = FrozenClassifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), TINY)
    return Known(
        classifier, seen_of(features_nD), torch.arange(len(features_nD)) % 3, nothing, nothing, seed
    )


def auroc(inside_n: Tensor, outside_n: Tensor) -> float:
    return float(
        roc_auc_score([0] * len(inside_n) + [1] * len(outside_n), torch.cat([inside_n, outside_n]))
    )


def two_clouds(count: int, seed: int) -> Tensor:
    """Two Gaussians of unlike shape around (-6, 0, ...) and (6, 0, ...), [count, 4]."""
    features_nD = torch.randn(count, 4, generator=source(seed))
    features_nD[: count // 2] *= torch.tensor([0.5, 2.0, 1.0, 0.3])
    features_nD[:, 0] += torch.where(torch.arange(count) < count // 2, -6.0, 6.0)
    return features_nD


# Mixture


def test_one_gaussian_is_its_closed_form() -> None:
    """Of a single Gaussian one component is chosen; its covariance is the features', over their mean variance, plus the least variance."""
    mixing_33 = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.5, 0.1]])
    features_nD = torch.randn(500, 3, generator=source()) @ mixing_33.T + torch.tensor(
        [5.0, -1.0, 0.0]
    )
    mixture = Mixture.fit(known_of(features_nD))
    assert mixture.mixture.n_components == 1
    centred_nD = features_nD.double() - features_nD.double().mean(dim=0)
    scaled_nD = centred_nD / centred_nD.square().mean().sqrt()
    covariance_33 = scaled_nD.T @ scaled_nD / 500 + LEAST_VARIANCE * torch.eye(
        3, dtype=torch.double
    )
    gaussian = torch.distributions.MultivariateNormal(
        torch.zeros(3, dtype=torch.double), covariance_33
    )
    torch.testing.assert_close(
        mixture(seen_of(features_nD)), -gaussian.log_prob(scaled_nD), rtol=1e-6, atol=1e-6
    )


def test_the_mixture_finds_what_lies_between_two_clouds() -> None:
    """Where one Gaussian has its mean: it would take them for the most typical of all."""
    training_nD, inside_nD = two_clouds(300, 0), two_clouds(200, 1)
    between_nD = 0.5 * torch.randn(200, 4, generator=source(2))
    mixture = Mixture.fit(known_of(training_nD))
    assert mixture.mixture.n_components == 2
    assert auroc(mixture(seen_of(inside_nD)), mixture(seen_of(between_nD))) > 0.99
    single = torch.distributions.MultivariateNormal(training_nD.mean(dim=0), training_nD.T.cov())
    assert auroc(-single.log_prob(inside_nD), -single.log_prob(between_nD)) < 0.1


@pytest.mark.parametrize("detector", [Mixture, Cluster])
def test_far_features_score_above_near_ones(detector: type[Mixture] | type[Cluster]) -> None:
    fitted = detector.fit(known_of(two_clouds(300, 0)))
    inside_nD = two_clouds(200, 1)
    score_n = fitted(seen_of(inside_nD))
    assert score_n.dtype == torch.double
    assert score_n.shape == (200,)
    assert auroc(score_n, fitted(seen_of(inside_nD + torch.tensor([0.0, 15.0, 0.0, 0.0])))) > 0.99


def test_the_mixture_does_not_depend_on_the_features_basis_and_unit() -> None:
    rotation_DD = 8 * torch.linalg.qr(torch.randn(4, 4, generator=source(5))).Q
    assert_unchanged(Mixture, rotation_DD)


def test_clusters_do_not_depend_on_the_unit_of_each_feature() -> None:
    assert_unchanged(Cluster, torch.diag(torch.tensor([1.0, 64.0, 0.125, 4.0])))


def assert_unchanged(detector: type[Mixture] | type[Cluster], map_DD: Tensor) -> None:
    training_nD, probes_nD, shift_D = (
        two_clouds(300, 0),
        two_clouds(50, 1),
        torch.tensor([0.0, 5.0, -1.0, 2.0]),
    )
    plain_n = detector.fit(known_of(training_nD))(seen_of(probes_nD))
    moved_n = detector.fit(known_of(training_nD @ map_DD + shift_D))(
        seen_of(probes_nD @ map_DD + shift_D)
    )
    torch.testing.assert_close(moved_n, plain_n, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("detector", [Mixture, Cluster])
def test_leaving_a_feature_that_never_varied_is_seen(
    detector: type[Mixture] | type[Cluster],
) -> None:
    """Dependent and dead features: one is a copy, one is always 0, as of a unit that no training image moves."""

    def widened(features_nD: Tensor, dead: float) -> Tensor:
        return torch.cat(
            [features_nD, features_nD[:, :1], torch.full((len(features_nD), 1), dead)], dim=1
        )

    fitted = detector.fit(known_of(widened(two_clouds(300, 0), 0.0)))
    inside_n, outside_n = (
        fitted(seen_of(widened(two_clouds(200, 1), dead))) for dead in (0.0, 6.0)
    )
    assert inside_n.isfinite().all()
    assert auroc(inside_n, outside_n) > 0.99


def test_the_mixture_of_fewer_images_than_features() -> None:
    features_nD = torch.randn(20, 30, generator=source())
    mixture = Mixture.fit(known_of(features_nD))
    assert mixture(seen_of(features_nD)).max() < mixture(seen_of(features_nD.flip(1))).min()


# Cluster


def test_cluster_by_hand() -> None:
    """Three places on a line, the second feature constant: its unit stays as it is."""
    features_n2 = torch.tensor([[0.0, 5.0], [6.0, 5.0], [12.0, 5.0]]).repeat(10, 1)
    cluster = Cluster.fit(known_of(features_n2))
    probes_n2 = torch.tensor([[6.0, 5.0], [3.0, 5.0], [14.0, 5.0], [6.0, 7.0], [-3.0, 9.0]])
    deviation = 24**0.5
    expected = [0, 3 / deviation, 2 / deviation, 2, math.hypot(3 / deviation, 4)]
    assert cluster(seen_of(probes_n2)).tolist() == pytest.approx(expected, abs=1e-6)


# Both


@pytest.mark.parametrize("detector", [Mixture, Cluster])
def test_no_labels_are_used_and_one_seed_gives_the_same_bits(
    detector: type[Mixture] | type[Cluster],
) -> None:
    known, probes = known_of(two_clouds(300, 0), seed=3), seen_of(two_clouds(50, 1))
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[union-attr, index]
    score_n = detector.fit(known)(probes)
    assert torch.equal(
        detector.fit(replace(known, labels_n=known.labels_n.flip(0) * 0))(probes), score_n
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()  # type: ignore[index]


@cache
def digits(train: bool, count: int) -> tuple[Tensor, Tensor]:
    """The first images of every class alike, [count, 1, 28, 28] in [0, 1]."""
    images_nCHW, labels_n = LOADERS["mnist5k"](None, train)  # type: ignore[arg-type]
    chosen_n = torch.cat([(labels_n == label).nonzero()[: count // 10, 0] for label in range(10)])
    return images_nCHW[chosen_n].float() / 255, labels_n[chosen_n]


@pytest.mark.parametrize(("zoo", "least"), [("mnist_mlp", 0.97), ("mnist_cnn", 0.97)])
def test_unseen_digits_score_below_noise_and_negatives(zoo: str, least: float) -> None:
    """mnist_cnn is surer of noise than of digits (msp below 0.05 in test_detectors); its features tell."""
    classifier, test_nCHW = load_zoo(zoo), digits(False, 200)[0]
    known = gather(classifier, *digits(True, 1000), test_nCHW[:1])
    inside = look(classifier, test_nCHW)
    for detector in (Mixture, Cluster):
        fitted = detector.fit(known)
        for outliers_nCHW in (noise(test_nCHW, 200, seed=9), 1 - test_nCHW):
            assert auroc(fitted(inside), fitted(look(classifier, outliers_nCHW))) > least, detector


# Uncertainty, of logits


@pytest.mark.parametrize("N", [2, 3, 10, 200])
def test_uncertainty_is_its_formula(N: int) -> None:
    logits_nN = 3 * torch.randn(100, N, generator=source())
    p_nN = logits_nN.double().softmax(dim=1)
    spread_n = (p_nN - 1 / N).square().sum(dim=1)
    torch.testing.assert_close(
        uncertainty(logits_nN),
        1 - spread_n / ((1 - 1 / N) ** 2 + (N - 1) / N**2),
        rtol=1e-9,
        atol=1e-12,
    )


def test_uncertainty_by_hand() -> None:
    p_nN = torch.tensor(
        [[0.5, 0.25, 0.25], [0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3]],
        dtype=torch.double,
    )
    assert uncertainty(p_nN.log()).tolist() == pytest.approx([0.9375, 0.75, 0, 1], abs=1e-12)


def test_the_uncertainty_of_very_confident_images_keeps_its_order() -> None:
    """6 exp(-lead) for three classes; from a lead of 40 on, one less the greatest probability is 0 in double precision too."""
    leads_n = torch.tensor([20.0, 40.0, 60.0, 600.0])
    logits_nN = torch.stack([leads_n, torch.zeros(4), torch.zeros(4)], dim=1)
    assert (msp(logits_nN)[1:] == 0).all()
    assert uncertainty(logits_nN).tolist() == pytest.approx(
        [6 * math.exp(-float(lead)) for lead in leads_n], rel=1e-7, abs=0
    )
