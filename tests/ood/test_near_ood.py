"""Near-OOD: the classes that `data.classes` excludes are outliers for a classifier."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import netinv_lightning
from netinv_lightning.classifiers.build import load_classifier, resolve_spec
from netinv_lightning.classifiers.cache import cache_path
from netinv_lightning.data import datasets as sources
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.outlier_names import LEFT_OUT, check_outliers
from netinv_lightning.data.outliers import outliers
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.real_data import check_real
from netinv_lightning.run import run

digits = cache(sources.mnist5k)  # read once for all tests
FIRST_FIVE = [0, 1, 2, 3, 4]


@pytest.fixture(autouse=True)
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.LOADERS, "mnist5k", digits)


def labels_of(images: Tensor, train: bool) -> list[int]:
    """Return the labels of digits, found by comparing pixels."""
    pixels_nCHW, labels_n = digits(Path(), train)
    label_of = {
        image.numpy().tobytes(): label
        for image, label in zip(pixels_nCHW, labels_n.tolist(), strict=True)
    }
    return [label_of[image.numpy().tobytes()] for image in (images * 255).round().to(torch.uint8)]


def test_left_out_set_has_test_images_of_the_other_classes() -> None:
    real = ImageDataModule("mnist5k", classes=FIRST_FIVE)
    images = outliers(LEFT_OUT, real.spec, 5000, 0, Path(), real=real)
    assert images.shape == (500, 1, 28, 28)
    assert np.bincount(labels_of(images, train=False)).tolist() == [0] * 5 + [100] * 5
    few = outliers(LEFT_OUT, real.spec, 50, 0, Path(), real=real)
    assert np.bincount(labels_of(few, train=False)).tolist() == [0] * 5 + [10] * 5
    assert torch.equal(few, outliers(LEFT_OUT, real.spec, 50, 0, Path(), real=real))
    assert not torch.equal(few, outliers(LEFT_OUT, real.spec, 50, 1, Path(), real=real))


def test_left_out_training_set_has_their_training_images() -> None:
    real = ImageDataModule("mnist5k", classes=[9, 3])
    images = outliers(LEFT_OUT, real.spec, 80, 0, Path(), train=True, real=real)
    assert np.bincount(labels_of(images, train=True)).tolist() == [
        10,
        10,
        10,
        0,
        10,
        10,
        10,
        10,
        10,
    ]


def test_training_and_test_images_of_a_set_are_disjoint() -> None:
    spec = ImageDataModule("mnist5k").spec
    train, test = (
        {
            image.numpy().tobytes()
            for image in outliers("mnist5k", spec, 5000, 0, Path(), train=train)
        }
        for train in (True, False)
    )
    assert (len(train), len(test), len(train & test)) == (4000, 1000, 0)


def test_left_out_classes_of_user_images(tmp_path: Path) -> None:
    X = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None], (40, 8, 8))
    np.savez(tmp_path / "mine.npz", X=X, y=np.arange(40) % 4)
    real = ImageDataModule("npz", path=str(tmp_path / "mine.npz"), classes=[1, 2], val_fraction=0.2)
    found = {
        train: (outliers(LEFT_OUT, real.spec, 99, 0, Path(), train, real)[:, 0, 0, 0] * 255)
        .round()
        .tolist()
        for train in (True, False)
    }
    assert {number % 4 for numbers in found.values() for number in numbers} == {0, 3}
    assert [len(found[train]) for train in (True, False)] == [16, 4]
    assert len({*found[True], *found[False]}) == 20


@pytest.mark.parametrize("classes", [None, list(range(10)), [3, 1, 2, 0, 4, 5, 6, 7, 9, 8]])
def test_left_out_set_needs_an_excluded_class(classes: list[int] | None) -> None:
    why = r"^application.outliers=left_out: data.classes does not leave out any class of mnist5k"
    with pytest.raises(InputError, match=why):
        check_outliers(LEFT_OUT, "mnist5k", classes)
    real = ImageDataModule("mnist5k", classes=classes)
    with pytest.raises(InputError, match=why):
        outliers(LEFT_OUT, real.spec, 10, 0, Path(), real=real)


def test_left_out_set_of_user_images_is_checked_when_it_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", X=np.zeros((20, 8, 8), dtype=np.uint8), y=np.arange(20) % 2)
    check_outliers(LEFT_OUT, "npz", [0, 1])
    real = ImageDataModule("npz", path=str(tmp_path / "mine.npz"), classes=[0, 1])
    with pytest.raises(InputError, match="does not leave out any class of mine"):
        outliers(LEFT_OUT, real.spec, 10, 0, Path(), real=real)


@pytest.mark.parametrize("name", ["mnist", "mnist5k"])
def test_whole_set_is_not_an_outlier_set_for_some_of_its_classes(name: str) -> None:
    """Some of its images would be in-distribution."""
    own = rf"^application.outliers={name}: is the classifier's own data \(mnist\); for the other"
    with pytest.raises(InputError, match=own):
        check_outliers(name, "mnist", FIRST_FIVE)
    check_outliers(LEFT_OUT, "mnist", FIRST_FIVE)
    check_outliers("emnist_letters", "mnist", FIRST_FIVE)


def test_classifier_of_some_classes_is_trained_and_loaded(tmp_path: Path) -> None:
    network = [
        "classifier=mlp",
        "+classifier.network.widths=[32]",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
    ]
    data = ["data=mnist5k", "data.classes=[7,1,4]", "data.batch_size=50"]
    path = tmp_path / "three.safetensors"
    training = [
        "application=train_classifier",
        f"application.save_as={path}",
        "recipe.epochs=1",
        "recipe.lr=0.05",
    ]
    run(netinv_lightning.compose([*training, *network, *data]), tmp_path / "run")
    card = json.loads(path.with_suffix(".json").read_text())
    assert (card["data"]["num_classes"], card["data"]["class_names"]) == (3, ["7", "1", "4"])
    assert card["data"]["note"].endswith("only its classes 7, 1, 4")
    assert (card["training_images"], card["test_images"]) == (1080, 300)
    classifier = load_classifier(
        netinv_lightning.compose([*data, "classifier=checkpoint", f"classifier.path={path}"])
    )
    assert classifier.spec == ImageDataModule("mnist5k", classes=[7, 1, 4]).spec
    images_nCHW, labels_n = digits(Path(), False)
    for label, name in enumerate((7, 1, 4)):
        logits_nN = classifier(images_nCHW[labels_n == name].float() / 255)
        assert logits_nN.shape == (100, 3)
        assert (logits_nN.argmax(dim=1) == label).float().mean() > 0.8


def test_cache_distinguishes_classes_and_their_order() -> None:
    base = ["data=mnist5k", "classifier=mlp", "classifier.train=true", "trainer.accelerator=cpu"]
    paths = [
        cache_path(netinv_lightning.compose([*base, *more]))
        for more in ([], ["data.classes=[0,1]"], ["data.classes=[1,0]"], ["data.classes=[0,2]"])
    ]
    assert len(set(paths)) == 4


@pytest.mark.parametrize("classes", [[5, 6, 7, 8, 9], [4, 3, 2, 1, 0]])
def test_classes_must_be_those_of_the_training(classes: list[int]) -> None:
    of_five = ImageDataModule("mnist5k", classes=FIRST_FIVE)
    check_real(of_five, of_five.spec)
    with pytest.raises(
        InputError,
        match=(
            r"data.classes=\[.*the classifier has 0, 1, 2, 3, 4\. "
            r"Set the classes that it was trained on"
        ),
    ):
        check_real(ImageDataModule("mnist5k", classes=classes), of_five.spec)


def test_weights_without_a_card_have_the_classes_of_the_data(tmp_path: Path) -> None:
    cfg = netinv_lightning.compose(
        ["data=mnist5k", "data.classes=[0,1,2,3,4]", "classifier=mlp", "classifier.path=weights"]
    )
    assert resolve_spec(cfg.classifier, cfg.data, None).class_names == ("0", "1", "2", "3", "4")
