"""Post-hoc detectors: values by hand, formulas and planted outliers.

Shape suffixes: n images, C channels, H height, W width, N classes, D features, P pixels.
"""

from __future__ import annotations

import math
import pickle
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.real_data import of_split
from netinv_lightning.ood.detectors import (
    DETECTORS,
    Detector,
    FeatureSet,
    FitData,
    collect_fit_data,
    extract_features,
    extract_for,
    fit_detector,
    logit_scores,
    score_all,
    tuning_noise,
)
from netinv_lightning.ood.detectors.knn import KNN
from netinv_lightning.ood.detectors.linear_classifier import LinearClassifierScore
from netinv_lightning.ood.detectors.mahalanobis import Mahalanobis
from netinv_lightning.ood.detectors.odin import ODIN, STEPS, TEMPERATURES
from netinv_lightning.ood.detectors.oodl import OODL
from netinv_lightning.ood.detectors.vim import ViM

NEED_FEATURES = ("lc", "mahalanobis", "knn", "vim", "gmm", "cluster")
TINY = DataSpec("tiny", 3, 1, 2, (0.0,), (1.0,), ("a", "b", "c"))
LOGITS_23 = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_classifier(
    weight_NP: Tensor | None = None, bias_N: Tensor | None = None
) -> FrozenClassifier:
    """Classifier with logits linear in 2 x 2 pixels, which are also its penultimate features."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        network[1].weight.copy_(
            torch.randn(3, 4, generator=source(1)) if weight_NP is None else weight_NP
        )
        network[1].bias.copy_(torch.tensor([0.3, -0.2, 0.1]) if bias_N is None else bias_N)
    return FrozenClassifier(network, TINY)


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


def auroc(inside_n: Tensor, outside_n: Tensor) -> float:
    return float(
        roc_auc_score([0] * len(inside_n) + [1] * len(outside_n), torch.cat([inside_n, outside_n]))
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


# Tuned scores


def odin_of_linear(
    classifier: FrozenClassifier, images_nCHW: Tensor, temperature: float, step: float
) -> Tensor:
    """Compute ODIN with the gradient in closed form: W^T (softmax - one-hot prediction) / T."""
    linear = classifier.network[1]  # type: ignore[index]
    weight_34, bias_3 = linear.weight.double(), linear.bias.double()
    x_nP = images_nCHW.flatten(1).double()
    logits_nN = (x_nP @ weight_34.T + bias_3) / temperature
    predicted_nN = torch.nn.functional.one_hot(logits_nN.argmax(dim=1), 3)
    moved_nP = x_nP - step * ((logits_nN.softmax(dim=1) - predicted_nN) @ weight_34).sign()
    return 1 - ((moved_nP @ weight_34.T + bias_3) / temperature).softmax(dim=1).amax(dim=1)


@pytest.mark.parametrize(
    ("temperature", "step"), [(1.0, 0.004), (10.0, 0.1), (1000.0, 0.0), (1000.0, 0.002)]
)
def test_odin_equals_its_formula(temperature: float, step: float) -> None:
    """Steps are in units of pixels in [0, 1], not of normalised pixels."""
    classifier, images_nCHW = linear_classifier(), torch.rand(150, 1, 2, 2, generator=source())
    score_n = ODIN(classifier, temperature, step, 0.0)(extract_features(classifier, images_nCHW))
    torch.testing.assert_close(
        score_n, odin_of_linear(classifier, images_nCHW, temperature, step), rtol=0, atol=1e-6
    )


def test_odin_selects_the_best_setting_of_its_grid() -> None:
    classifier = linear_classifier(8 * torch.randn(3, 4, generator=source(4)))
    images_nCHW = torch.rand(90, 1, 2, 2, generator=source())
    outliers_nCHW = 0.35 + 0.3 * torch.rand(90, 1, 2, 2, generator=source(5))
    labels_n = torch.arange(90) % 3
    fit_data = collect_fit_data(classifier, images_nCHW, labels_n, images_nCHW, outliers_nCHW)
    chosen = ODIN.fit(fit_data)
    reached = {
        (temperature, step): auroc(
            *(
                odin_of_linear(classifier, images, temperature, step)
                for images in (images_nCHW, outliers_nCHW)
            )
        )
        for temperature in TEMPERATURES
        for step in STEPS
    }
    assert min(reached.values()) < max(reached.values())
    assert chosen.auroc == pytest.approx(max(reached.values()), abs=1e-3)
    assert reached[chosen.temperature, chosen.step] == pytest.approx(chosen.auroc, abs=1e-3)


def test_odin_ties_give_the_highest_temperature_and_no_step() -> None:
    classifier, images_nCHW = linear_classifier(), torch.rand(30, 1, 2, 2, generator=source())
    chosen = ODIN.fit(
        collect_fit_data(
            classifier, images_nCHW, torch.arange(30) % 3, images_nCHW, images_nCHW.clone()
        )
    )
    assert (chosen.temperature, chosen.step, chosen.auroc) == (TEMPERATURES[0], 0, 0.5)


class Contrast(nn.Module):
    """Network that separates images by contrast in its second layer, but not in its first."""

    def __init__(self, hides_again: bool) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Identity(), nn.ReLU(), nn.Tanh()
        self.head, self.hides_again = nn.Linear(4, 3), hides_again

    def forward(self, x_BCHW: Tensor) -> Tensor:
        contrast_BCHW = self.second(self.first(x_BCHW) - 0.5)
        last_BCHW = self.third(0 * contrast_BCHW if self.hides_again else contrast_BCHW)
        logits_BN: Tensor = self.head(last_BCHW.flatten(1))
        return logits_BN


@pytest.mark.parametrize("hides_again", [False, True])
def test_oodl_selects_the_first_layer_that_separates_outliers(hides_again: bool) -> None:
    """All images have a mean of about 0.5; in-distribution images are checkered, outliers are gray.

    The third layer separates them as well as the second, or not at all.
    """
    torch.manual_seed(0)
    classifier = FrozenClassifier(Contrast(hides_again), TINY)
    signs_122 = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]])
    mean_n111 = 0.5 + 0.02 * torch.randn(200, 1, 1, 1, generator=source())
    checkered = mean_n111 + 0.3 * signs_122
    gray = mean_n111.flip(0).expand(-1, 1, 2, 2).contiguous()
    fit_data = collect_fit_data(
        classifier, checkered, torch.arange(200) % 3, checkered.flip(0), gray
    )
    chosen = OODL.fit(fit_data)
    assert (chosen.layer, chosen.auroc) == ("second", 1)
    assert fit_detector("oodl", fit_data).scorer.layers == ("second",)
    assert (
        fit_detector("oodl", fit_data).score(gray).min()
        > fit_detector("oodl", fit_data).score(checkered).quantile(0.9)
    ).item()


def test_tuning_noise_is_half_uniform_and_half_gaussian() -> None:
    made_nCHW = tuning_noise(torch.zeros(1, 3, 16, 16), 41, seed=3)
    assert made_nCHW.shape == (41, 3, 16, 16)
    assert float(made_nCHW.min()) == 0
    assert float(made_nCHW.max()) == 1
    at_ends_n = ((made_nCHW == 0) | (made_nCHW == 1)).flatten(1).float().mean(dim=1)
    assert float(at_ends_n[:21].max()) < 0.01
    beyond_one_deviation = 2 * 0.1587
    assert at_ends_n[21:].mean() == pytest.approx(beyond_one_deviation, abs=0.02)
    assert torch.equal(made_nCHW, tuning_noise(torch.zeros(1, 3, 16, 16), 41, seed=3))


# Real digits


DIGITS = cache(lambda: ImageDataModule(name="mnist5k"))


def digits(split: str, count: int) -> tuple[Tensor, Tensor]:
    images = of_split(getattr(DIGITS(), split), count)
    return images.images_nCHW, images.labels_n


def scores_of(detectors: dict[str, Detector], images_nCHW: Tensor) -> dict[str, Tensor]:
    return score_all(detectors, extract_for(detectors, images_nCHW))


def fitted(classifier: FrozenClassifier, seed: int = 0) -> tuple[FitData, dict[str, Detector]]:
    training, validation = digits("train", 1000), digits("val", 60)[0]
    fit_data = collect_fit_data(
        classifier, *training, validation, tuning_noise(validation, 60, seed), seed
    )
    return fit_data, {name: fit_detector(name, fit_data) for name in DETECTORS}


@pytest.fixture(scope="module")
def mlp() -> tuple[FitData, dict[str, Detector]]:
    return fitted(load_zoo("mnist_mlp"))


def test_unseen_digits_score_below_noise_and_negatives(
    mlp: tuple[FitData, dict[str, Detector]],
) -> None:
    """No detector has the wrong sign."""
    test_nCHW, _ = digits("test", 200)
    outliers = {"noise": tuning_noise(test_nCHW, 200, seed=9), "negatives": 1 - test_nCHW}
    inside = scores_of(mlp[1], test_nCHW)
    for kind, images_nCHW in outliers.items():
        outside = scores_of(mlp[1], images_nCHW)
        reached = {name: auroc(inside[name], outside[name]) for name in DETECTORS}
        assert min(reached.values()) > 0.8, (kind, reached)


def test_only_features_detect_noise_with_mnist_cnn() -> None:
    """The network classifies all noise as the digit 8, with more confidence than any real digit."""
    classifier = load_zoo("mnist_cnn")
    training, test_nCHW = digits("train", 1000), digits("test", 200)[0]
    fit_data = collect_fit_data(classifier, *training, test_nCHW.new_zeros(1, 1, 28, 28))
    detectors = {
        name: fit_detector(name, fit_data)
        for name in ("msp", "energy", "lc", "mahalanobis", "knn", "vim")
    }
    inside, outside = (
        scores_of(detectors, test_nCHW),
        scores_of(detectors, tuning_noise(test_nCHW, 200, seed=9)),
    )
    reached = {name: auroc(inside[name], outside[name]) for name in detectors}
    assert max(reached[name] for name in ("msp", "energy", "lc")) < 0.05
    assert min(reached[name] for name in ("mahalanobis", "knn", "vim")) > 0.8


def test_all_detectors_share_one_forward_pass(mlp: tuple[FitData, dict[str, Detector]]) -> None:
    """Only ODIN runs the classifier again, for its gradient and after its step."""
    fit_data, detectors = mlp
    images_nCHW, passes = digits("test", 120)[0], fit_data.classifier.forward_count
    before = passes.forwards
    shared = scores_of(
        {name: detector for name, detector in detectors.items() if name != "odin"}, images_nCHW
    )
    assert passes.forwards - before == 120
    for name, score_n in shared.items():
        assert score_n.shape == (120,)
        assert score_n.dtype == torch.double
        torch.testing.assert_close(detectors[name].score(images_nCHW), score_n)
    moving = ODIN(fit_data.classifier, 1000.0, 0.002, 0.0)
    before, backwards = passes.forwards, passes.backwards
    moving(extract_features(fit_data.classifier, images_nCHW))
    assert (passes.forwards - before, passes.backwards - backwards) == (3 * 120, 120)


def test_equal_seeds_give_equal_scores_and_keep_global_randomness(
    mlp: tuple[FitData, dict[str, Detector]],
) -> None:
    images_nCHW = digits("test", 50)[0]
    state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # type: ignore[union-attr, index]
    again = scores_of(fitted(mlp[0].classifier)[1], images_nCHW)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()  # type: ignore[index]
    for name, score_n in scores_of(mlp[1], images_nCHW).items():
        assert torch.equal(score_n, again[name]), name


def test_detectors_can_be_pickled(mlp: tuple[FitData, dict[str, Detector]]) -> None:
    images_nCHW = digits("test", 20)[0]
    for detector in mlp[1].values():
        assert torch.equal(
            pickle.loads(pickle.dumps(detector)).score(images_nCHW), detector.score(images_nCHW)
        )


# Invalid input


def without_linear() -> FrozenClassifier:
    return FrozenClassifier(nn.Sequential(nn.AdaptiveAvgPool2d((1, 3)), nn.Flatten()), TINY, ["0"])


@pytest.mark.parametrize("name", DETECTORS)
def test_only_detectors_of_features_need_a_feature_layer(name: str) -> None:
    images_nCHW, labels_n = torch.rand(60, 1, 2, 2, generator=source()), torch.arange(60) % 3
    fit_data = collect_fit_data(without_linear(), images_nCHW, labels_n, images_nCHW)
    if name in NEED_FEATURES:
        others = "autoencoder, energy, gen, max_logit, msp, odin, oodl, uncertainty"
        with pytest.raises(
            InputError, match=rf"^application.detectors={name}: needs .* choose from: {others}$"
        ):
            fit_detector(name, fit_data)
    else:
        assert fit_detector(name, fit_data).score(images_nCHW).isfinite().all()


def test_vim_needs_logits_of_the_last_linear_layer() -> None:
    classifier = FrozenClassifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh()), TINY)
    images_nCHW = torch.rand(60, 1, 2, 2, generator=source())
    with pytest.raises(InputError, match=r"^application.detectors=vim: .*remove vim$"):
        fit_detector(
            "vim", collect_fit_data(classifier, images_nCHW, torch.arange(60) % 3, images_nCHW)
        )


def test_unknown_detector_is_an_input_error(mlp: tuple[FitData, dict[str, Detector]]) -> None:
    with pytest.raises(
        InputError,
        match=r"^application.detectors=mahalanobi: no such detector; did you mean 'mahalanobis'\?$",
    ):
        fit_detector("mahalanobi", mlp[0])


@pytest.mark.parametrize(
    ("images_nCHW", "message"),
    [
        (
            torch.zeros(5, 3, 2, 2),
            r"^images: \[5, 3, 2, 2\] .* shape, \[n, 1, 2, 2\], a single one as image\[None\]$",
        ),
        (
            torch.zeros(5, 1, 2, 2, dtype=torch.uint8),
            r"^images: are uint8; must be in \[0, 1\]: images.float\(\) / 255$",
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
