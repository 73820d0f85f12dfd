"""Detectors of pytorch-ood: the scores of the library, formulas, planted outliers, saved detectors.

Shape suffixes: n images, C channels, H height, W width, N classes, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_ood import detector as pytorch_ood  # type: ignore[import-untyped]
from torch import Tensor, nn

from netinv_lightning import compose
from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.real_data import of_split
from netinv_lightning.ood.detectors import (
    FeatureSet,
    FitData,
    collect_fit_data,
    extract_features,
    fit_detector,
)
from netinv_lightning.ood.detectors.build import load_saved_detector
from netinv_lightning.ood.detectors.gram import ORDERS
from netinv_lightning.ood.detectors.logit_scores import entropy
from netinv_lightning.ood.detectors.saved_detectors import save_fit_images
from netinv_lightning.training.seeds import own_randomness
from tests.ood.linear_classifiers import TINY, auroc, linear_classifier, source

BETWEEN_CLASSES = (
    "entropy", "kl_matching", "temperature_scaling", "rmd", "fdbd", "she", "nci",
    "nnguide", "pnml", "gradnorm", "nac", "react", "vra",
)  # fmt: skip
TUNED = ("nci", "nac", "react", "dice", "ash", "scale", "vra")
LAST_LAYER: dict[str, Callable[..., Any]] = {
    "fdbd": pytorch_ood.fDBD,
    "she": pytorch_ood.SHE,
    "nci": pytorch_ood.NCI,
    "nnguide": pytorch_ood.NNGuide,
    "pnml": pytorch_ood.PNML,
    "lts": pytorch_ood.LTS,
}
SHAPED: dict[str, Callable[..., Any]] = {
    "react": pytorch_ood.ReAct,
    "ash": pytorch_ood.ASH,
    "scale": pytorch_ood.SCALE,
    "vra": pytorch_ood.VRA,
}


@cache
def three_classes(faint: bool = False) -> FitData:
    """Linear classifier of 2 x 2 pixels; the images of class k have their brightest pixel at k.

    The outliers are gray images between the classes, or, if `faint`, images with less contrast.
    """
    classifier = linear_classifier(8 * torch.eye(3, 4), torch.tensor([0.3, -0.2, 0.1]))
    labels_n = torch.arange(300) % 3
    images_nCHW = near_prototypes(labels_n, seed=0)
    validation = near_prototypes(labels_n, seed=1)
    gray = 0.5 + 0.2 * torch.rand(300, 1, 2, 2, generator=source(2))
    outliers = 0.3 * near_prototypes(labels_n, seed=2) if faint else gray
    return collect_fit_data(
        classifier, images_nCHW, labels_n, validation, outliers, validation_labels_n=labels_n
    )


def near_prototypes(labels_n: Tensor, seed: int) -> Tensor:
    noise_nD = 0.1 * torch.rand(len(labels_n), 4, generator=source(seed))
    prototypes_nD = 0.9 * torch.eye(3, 4)[labels_n]
    return (prototypes_nD + noise_nD).reshape(-1, 1, 2, 2)


def head_of(fit_data: FitData) -> nn.Linear:
    linear = fit_data.classifier.network[1]  # type: ignore[index]
    assert isinstance(linear, nn.Linear)
    return linear


@pytest.mark.parametrize("name", LAST_LAYER)
def test_scores_of_features_and_the_last_layer_are_those_of_the_library(name: str) -> None:
    fit_data = three_classes()
    setting = getattr(fit_detector(name, fit_data).scorer, "chosen", {})
    library = LAST_LAYER[name](None, head_of(fit_data), **setting)
    library.fit_features(fit_data.training.features_nD, fit_data.labels_n)
    expected_n = library.predict_features(fit_data.outliers.features_nD).double()
    assert torch.equal(fit_detector(name, fit_data).scorer(fit_data.outliers), expected_n)


@pytest.mark.parametrize("name", SHAPED)
def test_scores_of_shaped_features_are_those_of_the_library(name: str) -> None:
    fit_data = three_classes(faint=True)
    scorer: Any = fit_detector(name, fit_data).scorer
    library = SHAPED[name](None, nn.Sequential(nn.Flatten(), head_of(fit_data)), **scorer.chosen)
    library.fit_feature_maps(fit_data.training.features_nD[:, :, None, None], fit_data.labels_n)
    expected_n = library.predict_feature_maps(fit_data.outliers.features_nD[:, :, None, None])
    assert torch.equal(scorer(fit_data.outliers), expected_n.double())


def test_scores_of_logits_are_those_of_the_library() -> None:
    fit_data = three_classes()
    logits_nN, labels_n = fit_data.training.logits_nN.double(), fit_data.labels_n
    for name, library in (
        ("kl_matching", pytorch_ood.KLMatching(None)),
        ("openmax", pytorch_ood.OpenMax(None)),
    ):
        library.fit_logits(logits_nN, labels_n)
        expected_n = library.predict_logits(fit_data.outliers.logits_nN.double())
        assert torch.equal(fit_detector(name, fit_data).scorer(fit_data.outliers), expected_n)


def test_temperature_scaling_is_fitted_on_validation_images() -> None:
    fit_data = three_classes()
    library = pytorch_ood.TemperatureScaling(None)
    library.fit_logits(fit_data.validation.logits_nN.double(), fit_data.validation.labels_n)
    scaled_nN = fit_data.outliers.logits_nN.double() / library.t.item()
    torch.testing.assert_close(
        fit_detector("temperature_scaling", fit_data).scorer(fit_data.outliers),
        1 - scaled_nN.softmax(dim=1).amax(dim=1),
    )
    right_n = fit_data.validation.logits_nN.argmax(dim=1) == fit_data.validation.labels_n
    assert right_n.all()  # the images and their labels are the same sample


def test_rmd_equals_its_formula_for_dependent_features() -> None:
    """Of seven features two are copies and one is constant; the pseudo-inverse ignores them."""
    free_n4, labels_n = torch.randn(240, 4, generator=source()), torch.arange(240) % 3
    features_n7 = torch.cat([free_n4, free_n4[:, :2], torch.ones(240, 1)], dim=1)
    features_n7 = features_n7 + labels_n[:, None]
    fit_data = three_classes()
    of_features = type(fit_data.training)(torch.empty(0), torch.empty(0), features_n7)
    fitted = FitData(fit_data.classifier, of_features, labels_n, of_features, of_features, 0)
    values_n7, label_n = features_n7.double().numpy(), labels_n.numpy()
    means_37 = np.stack([values_n7[label_n == label].mean(axis=0) for label in range(3)])
    # Only the directions that vary within classes count.
    axes_7V, lengths_V, _ = np.linalg.svd((values_n7 - means_37[label_n]).T, full_matrices=False)
    varies_V = lengths_V > 1e-5 * lengths_V[0]
    white_nV = values_n7 @ axes_7V[:, varies_V] / lengths_V[varies_V]
    means_3V = means_37 @ axes_7V[:, varies_V] / lengths_V[varies_V]
    centred_nV = white_nV - white_nV.mean(axis=0)
    inverse_VV = np.linalg.inv(centred_nV.T @ centred_nV)
    to_all_n = np.einsum("nv,vw,nw->n", centred_nV, inverse_VV, centred_nV)
    to_class_3n = np.stack([((white_nV - mean_V) ** 2).sum(axis=1) for mean_V in means_3V])
    expected_n = to_class_3n.min(axis=0) - to_all_n
    score_n = fit_detector("rmd", fitted).scorer(of_features)
    np.testing.assert_allclose(score_n.numpy(), expected_n, rtol=1e-3, atol=1e-5)


def test_gradnorm_is_the_gradient_of_the_last_weights() -> None:
    """Its L1 norm is the product of those of the features and of softmax minus 1 / N."""
    fit_data = three_classes()
    of_logits_n = (fit_data.outliers.logits_nN.softmax(dim=1) - 1 / 3).abs().sum(dim=1)
    expected_n = -of_logits_n * fit_data.outliers.features_nD.abs().sum(dim=1)
    torch.testing.assert_close(
        fit_detector("gradnorm", fit_data).scorer(fit_data.outliers),
        expected_n.double(),
        rtol=1e-5,
        atol=1e-6,
    )


def test_dice_keeps_the_weights_that_contribute_most() -> None:
    fit_data = three_classes()
    scorer: Any = fit_detector("dice", fit_data).scorer
    weight_ND, mean_D = head_of(fit_data).weight, fit_data.training.features_nD.mean(dim=0)
    contribution_ND = weight_ND * mean_D
    kept_ND = weight_ND * (contribution_ND > contribution_ND.quantile(scorer.chosen["p"]))
    logits_nN = fit_data.outliers.features_nD @ kept_ND.T + head_of(fit_data).bias
    torch.testing.assert_close(
        scorer(fit_data.outliers), -logits_nN.logsumexp(dim=1).double(), rtol=1e-5, atol=1e-5
    )


def test_combination_is_the_sum_of_standardised_members() -> None:
    fit_data = three_classes()
    scorer = fit_detector("combination", fit_data).scorer
    members = [fit_detector(name, fit_data).scorer for name in ("knn", "mahalanobis", "energy")]

    def distances(features: FeatureSet) -> list[Tensor]:
        knn_n, squared_n, energy_n = (member(features) for member in members)
        return [knn_n, squared_n.sqrt(), energy_n]

    inside, outside = distances(fit_data.validation), distances(fit_data.outliers)
    expected_n = sum((of - own.mean()) / own.std() for own, of in zip(inside, outside, strict=True))
    torch.testing.assert_close(scorer(fit_data.outliers), expected_n)
    assert scorer(fit_data.validation).mean().item() == pytest.approx(0, abs=1e-9)


def test_gram_equals_the_library_on_a_chain_of_modules() -> None:
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(1, 3, 2, padding=1), nn.Conv2d(3, 2, 2)]
    network = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(8, 3))
    classifier = FrozenClassifier(network, TINY)
    images_nCHW, labels_n = torch.rand(60, 1, 2, 2, generator=source()), torch.arange(60) % 3
    fit_data = collect_fit_data(classifier, images_nCHW, labels_n, images_nCHW, seed=3)
    library = pytorch_ood.Gram(network[2:], convolutions, 3, ORDERS)
    with own_randomness(3, torch.device("cpu")):
        library.fit([(images_nCHW, labels_n)])
    probes_nCHW = torch.rand(40, 1, 2, 2, generator=source(1))
    torch.testing.assert_close(
        fit_detector("gram", fit_data).score(probes_nCHW),
        library.predict(probes_nCHW).double(),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("faint", [False, True])
def test_outliers_score_higher(faint: bool) -> None:
    """ASH and SCALE enlarge gray images, whose pixels are equal: they detect faint images only."""
    fit_data = three_classes(faint)
    names = ("ash", "scale", "lts", "energy") if faint else BETWEEN_CLASSES
    reached = {}
    for name in names:
        scorer = fit_detector(name, fit_data).scorer
        reached[name] = auroc(scorer(fit_data.validation), scorer(fit_data.outliers))
    assert min(reached.values()) > 0.9, reached


def test_entropy_of_logits() -> None:
    logits_nN = torch.tensor([[0.0, 0.0, 0.0], [math.log(2), 0.0, -1000.0], [50.0, 0.0, 0.0]])
    two = -2 / 3 * math.log(2 / 3) - 1 / 3 * math.log(1 / 3)
    assert entropy(logits_nN).tolist() == pytest.approx([math.log(3), two, 0], abs=1e-5)


@pytest.mark.parametrize("name", TUNED)
def test_equal_settings_give_the_published_one(name: str) -> None:
    """The tuning outliers are the validation images, so that every AUROC is 0.5."""
    data = three_classes()
    same = FitData(
        data.classifier, data.training, data.labels_n, data.validation, data.validation, 0
    )
    scorer: Any = fit_detector(name, same).scorer
    assert (scorer.chosen, scorer.auroc) == (scorer.published, 0.5)


def test_a_class_without_correct_predictions_is_an_input_error() -> None:
    data = three_classes()
    wrong_n = (data.labels_n + 1) % 3
    fit_data = FitData(data.classifier, data.training, wrong_n, data.validation, data.outliers, 0)
    with pytest.raises(
        InputError,
        match=r"^application.detectors=she: No correct predictions for class 0; .*remove she$",
    ):
        fit_detector("she", fit_data)


def test_temperature_scaling_needs_labels_of_the_validation_images() -> None:
    data = three_classes()
    images_nCHW = data.training.images_nCHW
    fit_data = collect_fit_data(data.classifier, images_nCHW, data.labels_n, images_nCHW)
    with pytest.raises(InputError, match=r"^application.detectors=temperature_scaling: needs labe"):
        fit_detector("temperature_scaling", fit_data)


def test_saved_detectors_are_fitted_again_bit_for_bit(tmp_path: Path) -> None:
    data, classifier = ImageDataModule(name="mnist5k"), load_zoo("mnist_mlp")
    training, validation = of_split(data.train, 150, 0), of_split(data.val, 50, 0)
    names = ("temperature_scaling", "kl_matching", "rmd", "nnguide", "nac", "vra", "gram")
    save_fit_images(tmp_path, training, validation)
    cfg = compose(
        [
            *("application=detect_ood", "data=mnist5k", "classifier.zoo=mnist_mlp", "seed=5"),
            f"application.detectors=[{','.join(names)}]",
        ]
    )
    fit_data = collect_fit_data(
        classifier,
        training.images_nCHW,
        training.labels_n,
        validation.images_nCHW,
        seed=5,
        validation_labels_n=validation.labels_n,
    )
    features = extract_features(classifier, of_split(data.test, 20, 0).images_nCHW)
    for name in names:
        again = load_saved_detector(cfg, tmp_path, name).scorer(features)
        assert torch.equal(again, fit_detector(name, fit_data).scorer(features)), name
    with pytest.raises(InputError, match=r"has no detector openmax"):
        load_saved_detector(cfg, tmp_path, "openmax")
