"""GMM, k-means and the uncertainty estimate: closed forms and planted outliers.

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
from netinv_lightning.ood.detectors import (
    FeatureSet,
    FitData,
    collect_fit_data,
    extract_features,
    tuning_noise,
)
from netinv_lightning.ood.detectors.gmm import GMM, LEAST_VARIANCE
from netinv_lightning.ood.detectors.kmeans import KMeansDistance
from netinv_lightning.ood.detectors.logit_scores import msp, uncertainty

TINY = DataSpec("tiny", 3, 1, 2, (0.0,), (1.0,), ("a", "b", "c"))


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def features_of(values_nD: Tensor) -> FeatureSet:
    return FeatureSet(torch.empty(0), torch.empty(0), values_nD)


def fit_data_of(features_nD: Tensor, seed: int = 0) -> FitData:
    nothing = features_of(features_nD[:0])
    classifier = FrozenClassifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), TINY)
    return FitData(
        classifier,
        features_of(features_nD),
        torch.arange(len(features_nD)) % 3,
        nothing,
        nothing,
        seed,
    )


def auroc(inside_n: Tensor, outside_n: Tensor) -> float:
    return float(
        roc_auc_score([0] * len(inside_n) + [1] * len(outside_n), torch.cat([inside_n, outside_n]))
    )


def two_clouds(count: int, seed: int) -> Tensor:
    """Return samples of two Gaussians of different shape, with means -6 and 6 on the first axis."""
    features_nD = torch.randn(count, 4, generator=source(seed))
    features_nD[: count // 2] *= torch.tensor([0.5, 2.0, 1.0, 0.3])
    features_nD[:, 0] += torch.where(torch.arange(count) < count // 2, -6.0, 6.0)
    return features_nD


# GMM


def test_gmm_of_one_gaussian_equals_the_closed_form() -> None:
    """One component is selected, with the covariance of the features plus `LEAST_VARIANCE`."""
    mixing_33 = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.5, 0.1]])
    features_nD = torch.randn(500, 3, generator=source()) @ mixing_33.T + torch.tensor(
        [5.0, -1.0, 0.0]
    )
    gmm = GMM.fit(fit_data_of(features_nD))
    assert gmm.mixture.n_components == 1
    centred_nD = features_nD.double() - features_nD.double().mean(dim=0)
    scaled_nD = centred_nD / centred_nD.square().mean().sqrt()
    covariance_33 = scaled_nD.T @ scaled_nD / 500 + LEAST_VARIANCE * torch.eye(
        3, dtype=torch.double
    )
    gaussian = torch.distributions.MultivariateNormal(
        torch.zeros(3, dtype=torch.double), covariance_33
    )
    torch.testing.assert_close(
        gmm(features_of(features_nD)), -gaussian.log_prob(scaled_nD), rtol=1e-6, atol=1e-6
    )


def test_gmm_detects_points_between_two_clusters() -> None:
    """A single Gaussian would have its mean there and score these points as the most typical."""
    training_nD, inside_nD = two_clouds(300, 0), two_clouds(200, 1)
    between_nD = 0.5 * torch.randn(200, 4, generator=source(2))
    gmm = GMM.fit(fit_data_of(training_nD))
    assert gmm.mixture.n_components == 2
    assert auroc(gmm(features_of(inside_nD)), gmm(features_of(between_nD))) > 0.99
    single = torch.distributions.MultivariateNormal(training_nD.mean(dim=0), training_nD.T.cov())
    assert auroc(-single.log_prob(inside_nD), -single.log_prob(between_nD)) < 0.1


@pytest.mark.parametrize("detector", [GMM, KMeansDistance])
def test_distant_features_score_higher(detector: type[GMM] | type[KMeansDistance]) -> None:
    fitted = detector.fit(fit_data_of(two_clouds(300, 0)))
    inside_nD = two_clouds(200, 1)
    score_n = fitted(features_of(inside_nD))
    assert score_n.dtype == torch.double
    assert score_n.shape == (200,)
    assert (
        auroc(score_n, fitted(features_of(inside_nD + torch.tensor([0.0, 15.0, 0.0, 0.0])))) > 0.99
    )


def test_gmm_is_invariant_to_rotation_and_scale() -> None:
    rotation_DD = 8 * torch.linalg.qr(torch.randn(4, 4, generator=source(5))).Q
    assert_unchanged(GMM, rotation_DD)


def test_kmeans_is_invariant_to_the_scale_of_each_feature() -> None:
    assert_unchanged(KMeansDistance, torch.diag(torch.tensor([1.0, 64.0, 0.125, 4.0])))


def assert_unchanged(detector: type[GMM] | type[KMeansDistance], map_DD: Tensor) -> None:
    training_nD, probes_nD, shift_D = (
        two_clouds(300, 0),
        two_clouds(50, 1),
        torch.tensor([0.0, 5.0, -1.0, 2.0]),
    )
    plain_n = detector.fit(fit_data_of(training_nD))(features_of(probes_nD))
    moved_n = detector.fit(fit_data_of(training_nD @ map_DD + shift_D))(
        features_of(probes_nD @ map_DD + shift_D)
    )
    torch.testing.assert_close(moved_n, plain_n, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("detector", [GMM, KMeansDistance])
def test_change_of_a_constant_feature_is_detected(
    detector: type[GMM] | type[KMeansDistance],
) -> None:
    """One feature is a copy, and one is always 0, like a unit that no training image activates."""

    def widened(features_nD: Tensor, dead: float) -> Tensor:
        return torch.cat(
            [features_nD, features_nD[:, :1], torch.full((len(features_nD), 1), dead)], dim=1
        )

    fitted = detector.fit(fit_data_of(widened(two_clouds(300, 0), 0.0)))
    inside_n, outside_n = (
        fitted(features_of(widened(two_clouds(200, 1), dead))) for dead in (0.0, 6.0)
    )
    assert inside_n.isfinite().all()
    assert auroc(inside_n, outside_n) > 0.99


def test_gmm_with_fewer_images_than_features() -> None:
    features_nD = torch.randn(20, 30, generator=source())
    gmm = GMM.fit(fit_data_of(features_nD))
    assert gmm(features_of(features_nD)).max() < gmm(features_of(features_nD.flip(1))).min()


# k-means


def test_kmeans_by_hand() -> None:
    """Use three points on a line. The second feature is constant, so it is not rescaled."""
    features_n2 = torch.tensor([[0.0, 5.0], [6.0, 5.0], [12.0, 5.0]]).repeat(10, 1)
    kmeans = KMeansDistance.fit(fit_data_of(features_n2))
    probes_n2 = torch.tensor([[6.0, 5.0], [3.0, 5.0], [14.0, 5.0], [6.0, 7.0], [-3.0, 9.0]])
    deviation = 24**0.5
    expected = [0, 3 / deviation, 2 / deviation, 2, math.hypot(3 / deviation, 4)]
    assert kmeans(features_of(probes_n2)).tolist() == pytest.approx(expected, abs=1e-6)


# Both detectors


@pytest.mark.parametrize("detector", [GMM, KMeansDistance])
def test_labels_are_unused_and_the_seed_fixes_the_scores(
    detector: type[GMM] | type[KMeansDistance],
) -> None:
    fit_data, probes = fit_data_of(two_clouds(300, 0), seed=3), features_of(two_clouds(50, 1))
    state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # type: ignore[union-attr, index]
    score_n = detector.fit(fit_data)(probes)
    assert torch.equal(
        detector.fit(replace(fit_data, labels_n=fit_data.labels_n.flip(0) * 0))(probes), score_n
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()  # type: ignore[index]


@cache
def digits(train: bool, count: int) -> tuple[Tensor, Tensor]:
    """Return the first images of each class, equally many, [count, 1, 28, 28] in [0, 1]."""
    images_nCHW, labels_n = LOADERS["mnist5k"](None, train)  # type: ignore[arg-type]
    chosen_n = torch.cat([(labels_n == label).nonzero()[: count // 10, 0] for label in range(10)])
    return images_nCHW[chosen_n].float() / 255, labels_n[chosen_n]


@pytest.mark.parametrize(("zoo", "least"), [("mnist_mlp", 0.97), ("mnist_cnn", 0.97)])
def test_unseen_digits_score_below_noise_and_negatives(zoo: str, least: float) -> None:
    """mnist_cnn is more confident on noise than on digits, but its features separate them."""
    classifier, test_nCHW = load_zoo(zoo), digits(False, 200)[0]
    fit_data = collect_fit_data(classifier, *digits(True, 1000), test_nCHW[:1])
    inside = extract_features(classifier, test_nCHW)
    for detector in (GMM, KMeansDistance):
        fitted = detector.fit(fit_data)
        for outliers_nCHW in (tuning_noise(test_nCHW, 200, seed=9), 1 - test_nCHW):
            assert (
                auroc(fitted(inside), fitted(extract_features(classifier, outliers_nCHW))) > least
            ), detector


# Uncertainty of the logits


@pytest.mark.parametrize("N", [2, 3, 10, 200])
def test_uncertainty_equals_its_formula(N: int) -> None:
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


def test_uncertainty_keeps_the_order_of_very_confident_images() -> None:
    """For three classes the estimate is 6 exp(-margin). From a margin of 40 on, MSP is 0."""
    margin_n = torch.tensor([20.0, 40.0, 60.0, 600.0])
    logits_nN = torch.stack([margin_n, torch.zeros(4), torch.zeros(4)], dim=1)
    assert (msp(logits_nN)[1:] == 0).all()
    assert uncertainty(logits_nN).tolist() == pytest.approx(
        [6 * math.exp(-float(margin)) for margin in margin_n], rel=1e-7, abs=0
    )
