"""All detectors on real digits, with classifiers of the zoo."""

from __future__ import annotations

import pickle
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.real_data import of_split
from netinv_lightning.ood.detectors import (
    DETECTORS,
    Detector,
    FitData,
    collect_fit_data,
    extract_features,
    extract_for,
    fit_detector,
    score_all,
    tuning_noise,
)
from netinv_lightning.ood.detectors.odin import ODIN
from tests.ood.linear_classifiers import auroc

DIGITS = cache(lambda: ImageDataModule(name="mnist5k"))


def digits(split: str, count: int) -> tuple[Tensor, Tensor]:
    images = of_split(getattr(DIGITS(), split), count)
    return images.images_nCHW, images.labels_n


def scores_of(detectors: dict[str, Detector], images_nCHW: Tensor) -> dict[str, Tensor]:
    return score_all(detectors, extract_for(detectors, images_nCHW))


def fitted(classifier: FrozenClassifier, seed: int = 0) -> tuple[FitData, dict[str, Detector]]:
    training, (validation, labels_n) = digits("train", 1000), digits("val", 60)
    noise = tuning_noise(validation, 60, seed)
    fit_data = collect_fit_data(classifier, *training, validation, noise, seed, labels_n)
    return fit_data, {name: fit_detector(name, fit_data) for name in DETECTORS}


@pytest.fixture(scope="module")
def mlp() -> tuple[FitData, dict[str, Detector]]:
    return fitted(load_zoo("mnist_mlp"))


def test_unseen_digits_score_below_noise_and_negatives(
    mlp: tuple[FitData, dict[str, Detector]],
) -> None:
    """No detector has the wrong sign; GradNorm and NAC are weak on negatives."""
    test_nCHW, _ = digits("test", 200)
    outliers = {"noise": tuning_noise(test_nCHW, 200, seed=9), "negatives": 1 - test_nCHW}
    inside = scores_of(mlp[1], test_nCHW)
    for kind, images_nCHW in outliers.items():
        outside = scores_of(mlp[1], images_nCHW)
        reached = {name: auroc(inside[name], outside[name]) for name in DETECTORS}
        weak = [reached.pop(name) for name in ("gradnorm", "nac")]
        assert min(reached.values()) > 0.8, (kind, reached)
        assert min(weak) > 0.65, (kind, weak)


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
    """ODIN runs the classifier again, for its gradient and after its step; so does Gram."""
    fit_data, detectors = mlp
    images_nCHW, passes = digits("test", 120)[0], fit_data.classifier.forward_count
    before = passes.forwards
    shared = scores_of(
        {name: of for name, of in detectors.items() if name not in ("odin", "gram")}, images_nCHW
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


def test_unknown_detector_is_an_input_error(mlp: tuple[FitData, dict[str, Detector]]) -> None:
    with pytest.raises(
        InputError,
        match=r"^application.detectors=mahalanobi: no such detector; did you mean 'mahalanobis'\?$",
    ):
        fit_detector("mahalanobi", mlp[0])
