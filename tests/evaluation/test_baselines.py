"""The controls: sets of images of known worth, and what the metrics say of them (design section 6)."""

from __future__ import annotations

import pytest
import torch

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.baselines import CONTROLS, check_controls
from netinv_lightning.evaluation.measurement import Measurement


@pytest.fixture(scope="module")
def classifier() -> FrozenClassifier:
    return load_zoo("mnist_cnn")


@pytest.fixture(scope="module")
def real() -> ImageDataModule:
    return ImageDataModule("mnist5k")


@pytest.mark.parametrize("name", list(CONTROLS))
def test_balanced_images_in_range_by_seed(
    name: str, classifier: FrozenClassifier, real: ImageDataModule
) -> None:
    images = CONTROLS[name](40, classifier, real, 0)
    assert images.images_nCHW.shape == (40, 1, 28, 28)
    assert torch.bincount(images.labels_n).tolist() == [4] * 10
    assert 0 <= images.images_nCHW.min() <= images.images_nCHW.max() <= 1
    assert torch.equal(CONTROLS[name](40, classifier, real, 0).images_nCHW, images.images_nCHW)
    if name != "class_means":
        assert not torch.equal(
            CONTROLS[name](40, classifier, real, 1).images_nCHW, images.images_nCHW
        )


def test_noise_is_uniform(classifier: FrozenClassifier) -> None:
    x_nCHW = CONTROLS["noise"](100, classifier, None, 0).images_nCHW
    assert float(x_nCHW.mean()) == pytest.approx(1 / 2, abs=0.01)
    assert float(x_nCHW.var()) == pytest.approx(1 / 12, abs=0.003)


def test_class_means_are_the_means_of_training_images(
    classifier: FrozenClassifier, real: ImageDataModule
) -> None:
    images = CONTROLS["class_means"](25, classifier, real, 0)
    train_nCHW, labels_n = real.train
    by_hand = train_nCHW[labels_n == 3].double().mean(dim=0) / 255
    for x_CHW in images.images_nCHW[images.labels_n == 3]:
        torch.testing.assert_close(x_CHW.double(), by_hand, atol=1e-5, rtol=0)


def test_real_images_are_test_images_with_their_labels(
    classifier: FrozenClassifier, real: ImageDataModule
) -> None:
    images = CONTROLS["real"](
        100_000, classifier, real, 0
    )  # more than there are: all of the rarest class, as many of each
    assert (
        len(images.labels_n) == 500
    )  # half of them: the other half judges networks that are trained on generated images
    test = {(image.numpy().tobytes(), int(label)) for image, label in zip(*real.test, strict=True)}
    for x_CHW, label in zip(images.images_nCHW[::50], images.labels_n[::50], strict=True):
        assert ((x_CHW * 255).round().byte().numpy().tobytes(), int(label)) in test


def test_what_the_metrics_say_of_them(classifier: FrozenClassifier, real: ImageDataModule) -> None:
    """Known answers: networks know real images and not noise; gradient ascent fools the network that it climbs, no other."""
    measurement = Measurement(
        classifier,
        {"mnist_resnet": load_zoo("mnist_resnet")},
        None,
        ("accuracy", "transfer", "diversity"),
    )
    measured = {
        name: measurement(make(100, classifier, real, 0)) for name, make in CONTROLS.items()
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


def test_unknown_control() -> None:
    with pytest.raises(
        InputError,
        match=r"^measure.controls=noize: there is no such control; did you mean 'noise'\?$",
    ):
        check_controls(["real", "noize"])
