"""The baselines, and their values of the metrics."""

from __future__ import annotations

import pytest
import torch

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.baselines import BASELINES, check_baselines
from netinv_lightning.evaluation.measurement import Measurement


@pytest.fixture(scope="module")
def classifier() -> FrozenClassifier:
    return load_zoo("mnist_mlp")


@pytest.fixture(scope="module")
def real() -> ImageDataModule:
    return ImageDataModule("mnist5k")


@pytest.mark.parametrize("name", list(BASELINES))
def test_baselines_are_balanced_in_range_and_seeded(
    name: str, classifier: FrozenClassifier, real: ImageDataModule
) -> None:
    images = BASELINES[name](40, classifier, real, 0)
    assert images.images_nCHW.shape == (40, 1, 28, 28)
    assert torch.bincount(images.labels_n).tolist() == [4] * 10
    assert 0 <= images.images_nCHW.min() <= images.images_nCHW.max() <= 1
    assert torch.equal(BASELINES[name](40, classifier, real, 0).images_nCHW, images.images_nCHW)
    if name != "class_means":
        assert not torch.equal(
            BASELINES[name](40, classifier, real, 1).images_nCHW, images.images_nCHW
        )


def test_noise_is_uniform(classifier: FrozenClassifier) -> None:
    x_nCHW = BASELINES["noise"](100, classifier, None, 0).images_nCHW
    assert float(x_nCHW.mean()) == pytest.approx(1 / 2, abs=0.01)
    assert float(x_nCHW.var()) == pytest.approx(1 / 12, abs=0.003)


def test_class_means_are_the_means_of_training_images(
    classifier: FrozenClassifier, real: ImageDataModule
) -> None:
    images = BASELINES["class_means"](25, classifier, real, 0)
    train_nCHW, labels_n = real.train
    by_hand = train_nCHW[labels_n == 3].double().mean(dim=0) / 255
    for x_CHW in images.images_nCHW[images.labels_n == 3]:
        torch.testing.assert_close(x_CHW.double(), by_hand, atol=1e-5, rtol=0)


def test_real_images_are_test_images_with_their_labels(
    classifier: FrozenClassifier, real: ImageDataModule
) -> None:
    images = BASELINES["real"](100_000, classifier, real, 0)
    assert len(images.labels_n) == 500  # the other half evaluates networks (CAS)
    test = {(image.numpy().tobytes(), int(label)) for image, label in zip(*real.test, strict=True)}
    for x_CHW, label in zip(images.images_nCHW[::50], images.labels_n[::50], strict=True):
        assert ((x_CHW * 255).round().byte().numpy().tobytes(), int(label)) in test


def test_metrics_of_the_baselines(classifier: FrozenClassifier, real: ImageDataModule) -> None:
    """Networks recognise real images but not noise; gradient ascent does not transfer."""
    measurement = Measurement(
        classifier,
        {"mnist_resnet": load_zoo("mnist_resnet")},
        None,
        ("accuracy", "transfer", "diversity"),
    )
    measured = {
        name: measurement(make(100, classifier, real, 0)) for name, make in BASELINES.items()
    }
    accuracy = {name: metrics[names.INVERSION_ACCURACY] for name, metrics in measured.items()}
    transfer = {name: metrics[names.TRANSFER_ACCURACY] for name, metrics in measured.items()}
    assert accuracy["noise"] < 0.3
    assert transfer["noise"] < 0.3
    assert accuracy["real"] > 0.95
    assert transfer["real"] > 0.95
    assert accuracy["gradient"] > 0.9
    assert transfer["gradient"] < 0.5
    assert measured["class_means"][names.DUPLICATES] == 1.0
    assert measured["real"][names.DUPLICATES] < 0.1
    assert measured["class_means"][names.VENDI_CLASS] == pytest.approx(1.0, abs=1e-3)


def test_an_unknown_baseline_is_refused() -> None:
    with pytest.raises(
        InputError,
        match=r"^measure.controls=noize: is not a baseline; did you mean 'noise'\?$",
    ):
        check_baselines(["real", "noize"])
