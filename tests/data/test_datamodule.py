"""Classes, splits and augmentation of a data set."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from netinv_lightning.data.augmentation import shift_and_flip
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.specs import SPECS, spec_of_classes
from netinv_lightning.data.splits import stratified_indices
from netinv_lightning.errors import InputError
from tests.data.conftest import write_mnist

# Classes


def user_images(
    tmp_path: Path, labels: list[int], test_labels: list[int] | None = None
) -> dict[str, str]:
    """Write images whose pixels all equal the image's number, plus 100 for test images."""
    paths = {}
    for key, values, first in (("path", labels, 0), ("test_path", test_labels, 100)):
        if values is not None:
            X = np.broadcast_to(
                np.arange(first, first + len(values), dtype=np.uint8)[:, None, None],
                (len(values), 8, 8),
            )
            np.savez(tmp_path / f"{key}.npz", X=X, y=np.array(values))
            paths[key] = str(tmp_path / f"{key}.npz")
    return paths


def numbers_and_labels(split: tuple[Tensor, Tensor]) -> list[tuple[int, int]]:
    """Return number and label of each image that `user_images` wrote."""
    return list(zip(split[0][:, 0, 0, 0].tolist(), split[1].tolist(), strict=True))


def test_other_classes_are_left_out_and_labels_renumbered(
    tmp_path: Path,
) -> None:
    paths = user_images(tmp_path, [0, 1, 2, 3, 2, 1, 0, 3], [3, 2, 1, 0, 2])
    data = ImageDataModule("npz", **paths, classes=[2, 0], val_fraction=0)
    assert numbers_and_labels(data.train) == [(0, 1), (2, 0), (4, 0), (6, 1)]
    assert numbers_and_labels(data.test) == [(101, 0), (103, 1), (104, 0)]
    # with their original labels
    assert numbers_and_labels(data.left_out_train) == [(1, 1), (3, 3), (5, 1), (7, 3)]
    assert numbers_and_labels(data.left_out_test) == [(100, 3), (102, 1)]
    assert (data.spec.num_classes, data.spec.class_names, data.spec.note) == (
        2,
        ("2", "0"),
        "only its classes 2, 0",
    )


def test_gaps_in_classes_that_are_not_selected_are_allowed(tmp_path: Path) -> None:
    paths = user_images(tmp_path, [1, 3, 3, 1, 6], [6, 3, 1, 7])
    data = ImageDataModule("npz", **paths, classes=[3, 1], val_fraction=0)
    assert numbers_and_labels(data.train) == [(0, 1), (1, 0), (2, 0), (3, 1)]
    assert numbers_and_labels(data.test) == [(101, 0), (102, 1)]
    assert numbers_and_labels(data.left_out_test) == [(100, 6), (103, 7)]
    with pytest.raises(InputError, match=r"no training images of class 4; leave it out$"):
        ImageDataModule("npz", **paths, classes=[3, 4], val_fraction=0)
    with pytest.raises(InputError, match=r"no training image has the label 0, 2, 4, 5"):
        ImageDataModule("npz", **paths, val_fraction=0)


def test_without_classes_nothing_is_left_out(tmp_path: Path) -> None:
    data = ImageDataModule("npz", **user_images(tmp_path, [0, 1, 2, 1], [0, 1]), val_fraction=0)
    assert numbers_and_labels(data.train) == [(0, 0), (1, 1), (2, 2), (3, 1)]
    assert (numbers_and_labels(data.left_out_train), numbers_and_labels(data.left_out_test)) == (
        [],
        [],
    )


def test_classes_are_chosen_before_validation_and_subset(tmp_path: Path) -> None:
    data = ImageDataModule(
        "npz",
        **user_images(tmp_path, [0, 1, 2, 3] * 20),
        classes=[3, 1],
        val_fraction=0.25,
        subset_size=10,
    )
    # 5 of 20 images per class are held out for testing, then 25 % of the remaining 30 images for
    # validation.
    assert [
        split[1].bincount().tolist() for split in (data.train, data.test, data.left_out_test)
    ] == [[5, 5], [5, 5], [5, 0, 5]]
    assert len(data.val[1]) == 8
    held = [
        number
        for split in (data.train, data.val, data.test)
        for number, label in numbers_and_labels(split)
        if number % 4 == (3, 1)[label]
    ]
    assert len(set(held)) == 28  # no image twice, each with the label of its class


def test_a_named_data_set_keeps_statistics_and_class_names(tmp_path: Path) -> None:
    write_mnist(tmp_path / "FashionMNIST" / "raw", {"train": 10, "t10k": 10})
    data = ImageDataModule("fashion_mnist", str(tmp_path), classes=[9, 0, 4], val_fraction=0)
    whole = SPECS["fashion_mnist"]
    assert (data.spec.class_names, data.spec.name) == (
        ("ankle boot", "t-shirt", "coat"),
        "fashion_mnist",
    )
    assert (data.spec.mean, data.spec.std) == (whole.mean, whole.std)
    assert data.train[1].tolist() == [1, 2, 0]  # labels of the file's classes 0, 4 and 9
    assert data.left_out_test[1].tolist() == [1, 2, 3, 5, 6, 7, 8]
    part = spec_of_classes(SPECS["svhn_head"], [1, 2])
    assert part.note == f"{SPECS['svhn_head'].note}; only its classes 1, 2"


@pytest.mark.parametrize(
    ("classes", "why"),
    [
        ([], "must list 2 or more classes"),
        ([1], "must list 2 or more classes"),
        ([1, 0, 1], "names class 1 twice"),
        ([0, 4], "path has no class 4; its classes are 0 to 3"),
        ([-1, 0], "path has no class -1"),
    ],
)
def test_unavailable_classes_give_one_line(classes: list[int], why: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        ImageDataModule("npz", **user_images(tmp_path, [0, 1, 3, 1, 2], [0, 2]), classes=classes)
    assert str(caught.value).startswith(f"data.classes={classes}: {why}")
    assert "\n" not in str(caught.value)


# Splits and augmentation


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=60),
    share=st.fractions(0, 1),
    seed=st.integers(0, 5),
)
def test_stratified_choice_keeps_the_share_of_each_class(
    labels: list[int], share: Fraction, seed: int
) -> None:
    labels_n, size = torch.tensor(labels, dtype=torch.int64), round(len(labels) * share)
    chosen = stratified_indices(labels_n, size, seed).tolist()
    assert len(chosen) == size
    assert chosen == sorted(set(chosen))
    assert chosen == stratified_indices(labels_n, size, seed).tolist()
    for label in set(labels):
        taken = sum(labels[index] == label for index in chosen)
        assert abs(taken - Fraction(labels.count(label) * size, len(labels))) <= 1


def test_a_stratified_choice_of_no_images_is_empty() -> None:
    assert stratified_indices(torch.empty(0, dtype=torch.int64), 0, seed=0).tolist() == []


def test_stratified_choices_depend_on_the_seed() -> None:
    assert (
        len(
            {
                tuple(stratified_indices(torch.arange(200) % 4, 100, seed).tolist())
                for seed in range(20)
            }
        )
        == 20
    )
    with pytest.raises(ValueError, match="201 of 200"):
        stratified_indices(torch.arange(200) % 4, 201, 0)


@pytest.mark.parametrize(
    ("shift", "flip", "versions"), [(1, True, 18), (1, False, 9), (0, True, 2), (2, False, 25)]
)
def test_augmented_images_are_shifted_and_mirrored_versions(
    shift: int, flip: bool, versions: int
) -> None:
    x_CHW = torch.arange(50.0).view(2, 5, 5)
    padded = F.pad(x_CHW[None], (shift,) * 4, mode="reflect")[0]
    offsets = range(2 * shift + 1)
    expected = {
        tuple(padded[:, i : i + 5, j : j + 5].flatten().tolist()) for i in offsets for j in offsets
    }
    expected |= (
        {
            tuple(padded[:, i : i + 5, j : j + 5].flip(2).flatten().tolist())
            for i in offsets
            for j in offsets
        }
        if flip
        else set()
    )
    assert len(expected) == versions
    images = shift_and_flip(
        x_CHW.expand(600, -1, -1, -1), shift, flip, torch.Generator().manual_seed(0)
    )
    assert images.shape == (600, 2, 5, 5)
    # Each image is drawn separately, so every allowed version occurs, and no other.
    assert {tuple(image.flatten().tolist()) for image in images} == expected
    assert torch.equal(
        images,
        shift_and_flip(
            x_CHW.expand(600, -1, -1, -1), shift, flip, torch.Generator().manual_seed(0)
        ),
    )


def test_no_shift_and_no_flip_is_the_identity() -> None:
    x_BCHW = torch.rand(3, 1, 4, 4)
    assert torch.equal(shift_and_flip(x_BCHW, 0, False), x_BCHW)


def test_overfitting_uses_the_same_batch_in_every_epoch(tmp_path: Path) -> None:
    data = ImageDataModule(
        "npz", **user_images(tmp_path, [0] * 20 + [1] * 20), batch_size=8, val_fraction=0
    )
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        overfit_batches=1, global_rank=0, world_size=1
    )
    batches = data.train_dataloader()
    first, again = next(iter(batches)), next(iter(batches))
    assert torch.equal(first[0], again[0])
    assert sorted(set(first[1].tolist())) == [0, 1]
    assert len(first[1]) == 8
