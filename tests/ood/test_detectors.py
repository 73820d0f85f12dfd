"""Post-hoc detectors: values by hand, formulas and planted outliers.

Shape suffixes: n images, C channels, H height, W width, N classes, D features, P pixels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.errors import InputError
from netinv_lightning.ood.detectors import (
    DETECTORS,
    FeatureSet,
    FitData,
    collect_fit_data,
    extract_features,
    fit_detector,
    logit_scores,
)
from netinv_lightning.ood.detectors.knn import KNN
from netinv_lightning.ood.detectors.linear_classifier import LinearClassifierScore
from netinv_lightning.ood.detectors.mahalanobis import Mahalanobis
from netinv_lightning.ood.detectors.registry import SCORERS, Detector
from netinv_lightning.ood.detectors.scorer import Scorer
from netinv_lightning.ood.detectors.vim import ViM
from tests.ood.linear_classifiers import TINY, linear_classifier, source

NEED_FEATURES = [name for name, scorer in SCORERS.items() if scorer.needs_features]
LOGITS_23 = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])


def features_of(features_nD: Tensor) -> FeatureSet:
    return FeatureSet(torch.empty(0), torch.empty(0), features_nD)


def fit_data_of(
    features_nD: Tensor, labels_n: Tensor, classifier: FrozenClassifier | None = None
) -> FitData:
    """Return fit data with these penultimate features of the training images."""
    nothing = features_of(features_nD[:0])
    return FitData(
        classifier or linear_classifier(), features_of(features_nD), labels_n, nothing, nothing, 0
    )


# Scores computed from logits


def test_scores_of_logits_by_hand() -> None:
    p = math.exp(2) / (math.exp(2) + 2)
    q = (1 - p) / 2
    assert logit_scores.msp(LOGITS_23).tolist() == pytest.approx([1 - p, 2 / 3])
    assert logit_scores.max_logit(LOGITS_23).tolist() == pytest.approx([-2, 0])
    assert logit_scores.energy(LOGITS_23).tolist() == pytest.approx(
        [-math.log(math.exp(2) + 2), -math.log(3)]
    )
    of_gen = [((p * (1 - p)) ** 0.1 + 2 * (q * (1 - q)) ** 0.1) / 3, (2 / 9) ** 0.1]
    assert logit_scores.gen(LOGITS_23).tolist() == pytest.approx(of_gen)


def test_msp_keeps_the_order_of_very_confident_images() -> None:
    """In single precision, both probabilities are 1."""
    logits_nN = torch.tensor([[30.0, 0.0, 0.0], [20.0, 0.0, 0.0]])
    assert (logits_nN.softmax(dim=1)[:, 0] == 1).all()
    score_n = logit_scores.msp(logits_nN)
    assert score_n[1] == pytest.approx(2 * math.exp(-20), rel=1e-5)
    assert 0 < score_n[0] < score_n[1]


def test_msp_is_least_confidence_and_lc_is_not() -> None:
    """Least confidence, 1 - max p, equals MSP. LC orders images differently."""
    logits_nN = torch.randn(50, 3, generator=source())
    torch.testing.assert_close(
        logit_scores.msp(logits_nN), 1 - logits_nN.double().softmax(dim=1).amax(dim=1)
    )
    lc = LinearClassifierScore(torch.eye(2, dtype=torch.double), torch.zeros(2, dtype=torch.double))
    # The first image is far inside two classes; the second is inside one and far outside the other.
    both_n2 = torch.tensor([[3.0, 3.0], [1.0, -4.0]])
    assert lc(features_of(both_n2)).tolist() == [-3, -1]
    assert logit_scores.msp(both_n2)[0] > logit_scores.msp(both_n2)[1]


# Scores computed from features


def test_lc_by_hand() -> None:
    """LC is the smallest signed distance to the hyperplanes, positive on their outer side."""
    lc = LinearClassifierScore(
        torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double(), torch.tensor([-1.0, 0.0]).double()
    )
    assert lc(features_of(torch.tensor([[4.0, 2.0], [0.0, -4.0], [-9.0, -5.0]]))).tolist() == [
        -3,
        1,
        5,
    ]


def test_lc_is_negative_inside_a_class_and_positive_outside_all() -> None:
    centres_ND = torch.tensor([[6.0, 0, 0, 0], [0, 6.0, 0, 0], [0, 0, 6.0, 0]])
    labels_n = torch.arange(300) % 3
    features_nD = centres_ND[labels_n] + torch.randn(300, 4, generator=source())
    lc = LinearClassifierScore.fit(fit_data_of(features_nD, labels_n))
    inside_N, between = (
        lc(features_of(centres_ND)),
        lc(features_of(centres_ND.mean(dim=0, keepdim=True))),
    )
    assert inside_N.max() < 0 < between
    scale_D, shift_D = torch.tensor([1.0, 10.0, 0.1, 3.0]), torch.tensor([5.0, -1.0, 0.0, 2.0])
    scaled = LinearClassifierScore.fit(fit_data_of(features_nD * scale_D + shift_D, labels_n))
    torch.testing.assert_close(
        scaled(features_of(centres_ND * scale_D + shift_D)), inside_N, rtol=1e-3, atol=1e-3
    )


def test_mahalanobis_by_hand() -> None:
    """Use three classes with covariance diag(1, 4) and means (0, 0), (10, 0) and (0, 20)."""
    spread_42 = torch.tensor([[2**0.5, 0], [-(2**0.5), 0], [0, 8**0.5], [0, -(8**0.5)]])
    means_N2, labels_n = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 20.0]]), torch.arange(12) // 4
    mahalanobis = Mahalanobis.fit(
        fit_data_of(means_N2[labels_n] + spread_42.repeat(3, 1), labels_n)
    )
    probes_n2 = torch.tensor([[0.0, 0.0], [0.0, 2.0], [1.0, 2.0], [8.0, 0.0], [-3.0, 0.0]])
    assert mahalanobis(features_of(probes_n2)).tolist() == pytest.approx([0, 1, 2, 4, 9], abs=1e-5)


def test_mahalanobis_uses_the_pseudo_inverse() -> None:
    """Of seven features two are copies and one is constant, so the covariance has no inverse."""
    free_n4, labels_n = torch.randn(200, 4, generator=source()), torch.arange(200) % 3
    features_n7 = (
        torch.cat([free_n4, free_n4[:, :2], torch.ones(200, 1)], dim=1) + labels_n[:, None]
    )
    values_n7 = features_n7.double().numpy()
    means_37 = np.stack([values_n7[labels_n.numpy() == label].mean(axis=0) for label in range(3)])
    within_n7 = values_n7 - means_37[labels_n.numpy()]
    inverse_77 = np.linalg.pinv(within_n7.T @ within_n7 / 200, rcond=1e-8, hermitian=True)
    expected_3n = [
        np.einsum("nd,de,ne->n", values_n7 - mean_7, inverse_77, values_n7 - mean_7)
        for mean_7 in means_37
    ]
    score_n = Mahalanobis.fit(fit_data_of(features_n7, labels_n))(features_of(features_n7))
    np.testing.assert_allclose(score_n.numpy(), np.min(expected_3n, axis=0), rtol=1e-5, atol=1e-8)


def test_knn_is_the_distance_to_the_kth_neighbour() -> None:
    """With 2,000 training images k is 2. The norms of the features are ignored."""
    angle_n = torch.full((2000,), math.pi / 2)
    angle_n[0], angle_n[1:3] = 0.0, math.pi
    features_n2 = (
        torch.stack([angle_n.cos(), angle_n.sin()], dim=1) * torch.linspace(0.5, 2, 2000)[:, None]
    )
    knn = KNN.fit(fit_data_of(features_n2, torch.arange(2000) % 3))
    probes_n2 = torch.tensor([[5.0, 0.0], [-0.2, 0.0], [0.0, 3.0], [3.0, 3.0]])
    expected = [2**0.5, 0, 0, 2 * math.sin(math.pi / 8)]
    assert knn(features_of(probes_n2)).tolist() == pytest.approx(expected, abs=1e-3)


def test_vim_equals_its_formula() -> None:
    classifier = linear_classifier()
    images_n = torch.rand(60, 1, 2, 2, generator=source())
    seen = extract_features(classifier, images_n)
    fit_data = FitData(classifier, seen, torch.arange(60) % 3, seen, seen, 0)
    linear = classifier.network[1]  # type: ignore[index]
    weight_34, bias_3 = linear.weight.double().numpy(), linear.bias.double().numpy()
    centred_n4 = seen.features_nD.double().numpy() + np.linalg.pinv(weight_34) @ bias_3
    _, _, axes_44 = np.linalg.svd(centred_n4, full_matrices=True)
    residual_n = np.linalg.norm(centred_n4 @ axes_44[2:].T, axis=1)  # outside the first 2 axes
    logits_nN = seen.logits_nN.double().numpy()
    alpha = logits_nN.max(axis=1).mean() / residual_n.mean()
    expected_n = alpha * residual_n - np.log(np.exp(logits_nN).sum(axis=1))
    np.testing.assert_allclose(ViM.fit(fit_data)(seen).numpy(), expected_n, rtol=1e-3, atol=1e-4)


# Thresholds


def test_threshold_is_the_conformal_quantile() -> None:
    """The scores of the images are 0.01 to 0.99; of 99 the 95th smallest accepts 95 %."""
    classifier = linear_classifier(torch.zeros(3, 4), torch.zeros(3))
    detector = Detector("mean", classifier, MeanPixel())
    images_nCHW = (torch.arange(1, 100).flip(0) / 100)[:, None, None, None].expand(-1, 1, 2, 2)
    assert detector.threshold(0.95, images_nCHW) == pytest.approx(0.95)
    assert detector.threshold(0.99, images_nCHW) == pytest.approx(0.99)
    assert detector.threshold(0.5, images_nCHW[:1]) == pytest.approx(0.99)
    for accepted, images, message in (
        (0.99, images_nCHW[:98], r"^accepted=0.99: needs at least 99 images, got 98;"),
        (1.0, images_nCHW, r"^accepted=1.0: must be above 0 and below 1"),
        (0.95, None, r"^images: are missing; pass in-distribution images"),
    ):
        with pytest.raises(InputError, match=message):
            detector.threshold(accepted, images)


class MeanPixel(Scorer):
    def __call__(self, features: FeatureSet) -> Tensor:
        return features.images_nCHW.flatten(1).mean(dim=1).double()


# Invalid input


def without_linear() -> FrozenClassifier:
    return FrozenClassifier(nn.Sequential(nn.AdaptiveAvgPool2d((1, 3)), nn.Flatten()), TINY, ["0"])


@pytest.mark.parametrize("name", DETECTORS)
def test_only_detectors_of_features_need_a_feature_layer(name: str) -> None:
    images_nCHW, labels_n = torch.rand(60, 1, 2, 2, generator=source()), torch.arange(60) % 3
    fit_data = collect_fit_data(
        without_linear(), images_nCHW, labels_n, images_nCHW, validation_labels_n=labels_n
    )
    if name in NEED_FEATURES:
        others = ", ".join(sorted(set(DETECTORS) - set(NEED_FEATURES)))
        with pytest.raises(
            InputError, match=rf"^application.detectors={name}: needs .* choose from: {others}$"
        ):
            fit_detector(name, fit_data)
    else:
        assert fit_detector(name, fit_data).score(images_nCHW).isfinite().all()


@pytest.mark.parametrize("name", ["vim", "fdbd", "react", "dice", "nac"])
def test_logits_must_be_those_of_the_last_linear_layer(name: str) -> None:
    classifier = FrozenClassifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh()), TINY)
    images_nCHW = torch.rand(60, 1, 2, 2, generator=source())
    with pytest.raises(InputError, match=rf"^application.detectors={name}: .*remove {name}$"):
        fit_detector(
            name, collect_fit_data(classifier, images_nCHW, torch.arange(60) % 3, images_nCHW)
        )


@pytest.mark.parametrize(
    ("images_nCHW", "message"),
    [
        (
            torch.zeros(5, 3, 2, 2),
            r"^images: \[5, 3, 2, 2\] .* \[n, 1, 2, 2\]; pass a single image as image\[None\]$",
        ),
        (
            torch.zeros(5, 1, 2, 2, dtype=torch.uint8),
            r"^images: are uint8; must be floating-point in \[0, 1\]: use images.float\(\) / 255$",
        ),
        (
            torch.zeros(5, 1, 2, 2).numpy(),
            r"^images: must be a tensor, not a ndarray",
        ),
        (torch.zeros(0, 1, 2, 2), r"one or more"),
        (torch.full((5, 1, 2, 2), 1.01), r"^images: some pixels are NaN or outside of \[0, 1\]"),
        (
            torch.full((5, 1, 2, 2), math.nan),
            r"^images: some pixels are NaN or outside of \[0, 1\]",
        ),
    ],
)
def test_invalid_images_are_an_input_error(images_nCHW: Any, message: str) -> None:
    good_nCHW = torch.rand(30, 1, 2, 2, generator=source())
    detector = fit_detector(
        "msp", collect_fit_data(linear_classifier(), good_nCHW, torch.arange(30) % 3, good_nCHW)
    )
    with pytest.raises(InputError, match=message):
        detector.score(images_nCHW)


@pytest.mark.parametrize(
    "labels_n",
    [torch.arange(30) % 2, torch.arange(30) % 4, torch.arange(29) % 3, torch.arange(30) % 3 - 1],
)
def test_training_images_of_every_class_are_required(labels_n: Tensor) -> None:
    images_nCHW = torch.rand(30, 1, 2, 2, generator=source())
    with pytest.raises(
        InputError,
        match=r"^training: 30 images with \d+ labels; must be one label per image, from 0 to 2",
    ):
        collect_fit_data(linear_classifier(), images_nCHW, labels_n, images_nCHW)
