"""Loaders of the named data sets.

Tests of the real data need NETINV_DATA, the folder of the data sets. The other tests need neither
data nor network.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import Tensor
from torchvision import datasets

from netinv_lightning.data import datasets as sources
from netinv_lightning.data.datasets import LOADERS, single_digit
from netinv_lightning.data.specs import SPECS
from tests.data.conftest import pixels, write_mnist

ROOT = os.environ.get("NETINV_DATA", "")
MNIST_COUNTS = (
    [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
)
FACTS = {  # folder, images per class in training and test set, first labels of both
    "mnist": ("MNIST/raw", MNIST_COUNTS, ([5, 0, 4, 1], [7, 2, 1, 0])),
    "fashion_mnist": ("FashionMNIST/raw", ([6000] * 10, [1000] * 10), ([9, 0, 0, 3], [9, 2, 1, 1])),
    "cifar10": ("cifar-10-batches-py", ([5000] * 10, [1000] * 10), ([6, 9, 9, 4], [3, 8, 8, 0])),
}


def real_root(place: str) -> Path:
    if not ROOT:
        pytest.skip("NETINV_DATA, the folder of the real data sets, is not set")
    if not (Path(ROOT) / place).exists():
        pytest.skip(f"NETINV_DATA={ROOT}: {place} is missing")
    return Path(ROOT)


def moments(images_nCHW: Tensor) -> list[float]:
    """Return the mean and then the standard deviation of each channel, from the byte histogram."""
    value = torch.arange(256, dtype=torch.float64) / 255
    count_C256 = torch.stack(
        [torch.bincount(channel.flatten(), minlength=256) for channel in images_nCHW.unbind(1)]
    ).double()
    share_C256 = count_C256 / count_C256.sum(dim=1, keepdim=True)
    mean_C = share_C256 @ value
    return [*mean_C.tolist(), *(share_C256 @ value**2 - mean_C**2).sqrt().tolist()]


@pytest.mark.parametrize("name", FACTS)
def test_real_sets_have_their_known_sizes_labels_and_statistics(name: str) -> None:
    place, counts, first = FACTS[name]
    root, spec = real_root(place), SPECS[name]
    splits = [LOADERS[name](root, train) for train in (True, False)]
    for (images, labels), count, label in zip(splits, counts, first, strict=True):
        assert (images.shape, images.dtype) == (
            (sum(count), spec.channels, spec.image_size, spec.image_size),
            torch.uint8,
        )
        assert labels.bincount().tolist() == count
        assert labels[:4].tolist() == label
    assert moments(splits[0][0]) == pytest.approx([*spec.mean, *spec.std], abs=1e-3)


def test_svhn_head_has_its_known_sizes_and_digits() -> None:
    root, spec = real_root("train_32x32.head.mat"), SPECS["svhn_head"]
    (images, labels), (test_images, test_labels) = (
        LOADERS["svhn_head"](root, True),
        LOADERS["svhn_head"](root, False),
    )
    assert (images.shape, test_images.shape) == ((4434, 3, 32, 32), (1952, 3, 32, 32))
    assert labels.unique().tolist() == test_labels.unique().tolist() == list(range(10))
    assert (labels[:6].tolist(), test_labels[:6].tolist()) == (
        [1, 9, 2, 3, 2, 5],
        [5, 2, 1, 0, 6, 1],
    )
    # The statistics of the spec are those of the whole training set.
    assert moments(images) == pytest.approx([*spec.mean, *spec.std], abs=1e-2)


def test_mnist5k_needs_no_download_and_its_splits_are_disjoint(tmp_path: Path) -> None:
    (images, labels), (test_images, test_labels) = (
        LOADERS["mnist5k"](tmp_path, True),
        LOADERS["mnist5k"](tmp_path, False),
    )
    assert (labels.bincount().tolist(), test_labels.bincount().tolist()) == ([400] * 10, [100] * 10)
    train, test = ({image.numpy().tobytes() for image in split} for split in (images, test_images))
    assert (len(train), len(test), len(train & test)) == (4000, 1000, 0)
    assert moments(images) == pytest.approx(
        [*SPECS["mnist5k"].mean, *SPECS["mnist5k"].std], abs=2e-3
    )


def test_small_digits_are_those_of_scikit_learn(tmp_path: Path) -> None:
    (images, labels), (test_images, _) = (
        LOADERS["digits"](tmp_path, train) for train in (True, False)
    )
    assert (images.shape, test_images.shape) == ((1437, 1, 8, 8), (360, 1, 8, 8))
    assert moments(images) == pytest.approx([*SPECS["digits"].mean, *SPECS["digits"].std], abs=1e-4)
    # The first image is a test image; the second, a 1, is the first training image.
    assert labels[:3].tolist() == [1, 2, 3]
    assert images[0, 0, 0].tolist() == [0, 0, 0, 191, 207, 80, 0, 0]  # 12, 13 and 5 of 16


def test_mnist14_is_the_mean_of_2_x_2_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    monkeypatch.setattr(sources, "mnist", lambda root, train: (image, torch.tensor([7])))
    small, labels = LOADERS["mnist14"](Path(), True)
    assert small.tolist() == [[[[2, 4], [10, 12]]]]  # 2.5, 4.5, 10.5, 12.5 to even numbers
    assert labels.tolist() == [7]


def test_cifar100_subset_has_its_known_facts() -> None:
    root, spec = real_root("cifar100_subset_train.npz"), SPECS["cifar100_subset"]
    (images, labels), (test_images, test_labels) = (
        LOADERS["cifar100_subset"](root, True),
        LOADERS["cifar100_subset"](root, False),
    )
    assert (images.shape, test_images.shape) == ((10000, 3, 32, 32), (5000, 3, 32, 32))
    assert (labels.bincount().tolist(), test_labels.bincount().tolist()) == (
        [100] * 100,
        [50] * 100,
    )
    # The statistics of the spec are those of the whole training set.
    assert moments(images) == pytest.approx([*spec.mean, *spec.std], abs=1e-2)
    train, test = ({image.numpy().tobytes() for image in split} for split in (images, test_images))
    # CIFAR-100 itself contains a few duplicates.
    assert (len(train), len(test), len(train & test)) == (
        9999,
        4999,
        3,
    )


def test_specs_and_loaders_have_the_same_names() -> None:
    assert set(SPECS) == set(LOADERS)
    assert all(
        spec.name == name and len(spec.mean) == len(spec.std) == spec.channels
        for name, spec in SPECS.items()
    )


# Loaders, with tiny files in the layout of torchvision


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")]
)
def test_idx_files_are_read(name: str, folder: str, tmp_path: Path) -> None:
    write_mnist(tmp_path / folder / "raw", {"train": 10, "t10k": 5})
    for seed, (train, n) in enumerate(((True, 10), (False, 5))):
        images, labels = LOADERS[name](tmp_path, train)
        assert torch.equal(images, torch.from_numpy(pixels(n, 28, 1, seed)))
        assert labels.tolist() == list(range(n))


@pytest.mark.parametrize(
    ("name", "cls", "key"),
    [("cifar10", datasets.CIFAR10, "labels"), ("cifar100", datasets.CIFAR100, "fine_labels")],
)
def test_cifar_batches_are_read(
    name: str, cls: type, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cls, "train_list", [["one", None], ["two", None]])  # None: no checksum
    monkeypatch.setattr(cls, "test_list", [["test", None]])
    monkeypatch.setattr(cls, "meta", {"filename": "meta", "key": "names", "md5": None})
    folder = tmp_path / cls.base_folder
    folder.mkdir()
    (folder / "meta").write_bytes(pickle.dumps({"names": ["a", "b"]}))
    for seed, (file, labels) in enumerate({"one": [1, 0, 2], "two": [9, 8], "test": [4]}.items()):
        (folder / file).write_bytes(
            pickle.dumps(
                {"data": pixels(len(labels), 32, 3, seed).reshape(len(labels), -1), key: labels}
            )
        )
    images, labels_n = LOADERS[name](tmp_path, True)
    assert torch.equal(
        images, torch.from_numpy(np.concatenate([pixels(3, 32, 3, 0), pixels(2, 32, 3, 1)]))
    )
    assert labels_n.tolist() == [1, 0, 2, 9, 8]
    assert LOADERS[name](tmp_path, False)[1].tolist() == [4]


def test_cifar100_subset_is_read(tmp_path: Path) -> None:
    for seed, (split, labels) in enumerate({"train": [99, 0, 7], "test": [3, 4]}.items()):
        X = pixels(len(labels), 32, 3, seed).transpose(0, 2, 3, 1)
        np.savez(tmp_path / f"cifar100_subset_{split}.npz", X=X, y=np.array(labels, dtype=np.uint8))
        images, labels_n = LOADERS["cifar100_subset"](tmp_path, split == "train")
        assert torch.equal(images, torch.from_numpy(pixels(len(labels), 32, 3, seed)))
        assert (labels_n.tolist(), labels_n.dtype) == (labels, torch.int64)


def strokes(*columns: int) -> np.ndarray:
    """Return a grey crop with bright vertical strokes, each 3 pixels wide."""
    image_CHW = np.full((3, 32, 32), 100, dtype=np.uint8)
    for column in columns:
        image_CHW[:, 8:24, column : column + 3] = 230
    return image_CHW


@pytest.mark.parametrize("name", ["svhn", "svhn_head"])
def test_svhn_files_are_read_and_svhn_clean_has_single_digits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images_nCHW = np.stack([strokes(12, 18), strokes(1, 15), strokes(14)])
    images_nCHW[0, 1, 0, 31] = 101  # distinguishes rows, columns and channels
    for split in ("train", "test"):
        file = f"{split}_32x32{'.head' if name == 'svhn_head' else ''}.mat"
        monkeypatch.setitem(datasets.SVHN.split_list, split, ["", file, None])
        savemat(
            tmp_path / file,
            {
                "X": images_nCHW.transpose(2, 3, 1, 0),
                "y": np.array([[10], [3], [9]], dtype=np.uint8),
            },
        )
    images, labels = LOADERS[name](tmp_path, True)
    assert torch.equal(images, torch.from_numpy(images_nCHW))
    assert (labels.tolist(), labels.dtype) == ([0, 3, 9], torch.int64)
    clean_images, clean_labels = LOADERS[f"{name}_clean"](tmp_path, False)
    assert torch.equal(clean_images, torch.from_numpy(images_nCHW[[0, 2]]))
    assert clean_labels.tolist() == [0, 9]


@pytest.mark.parametrize(
    ("columns", "kept"),
    [((14,), [7]), ((9, 18), [7]), ((0, 14), []), ((14, 29), []), ((2, 14, 27), []), ((), [])],
)
def test_single_digit_rule(columns: tuple[int, ...], kept: list[int]) -> None:
    images, labels = single_digit((torch.from_numpy(strokes(*columns))[None], torch.tensor([7])))
    assert (len(images), labels.tolist()) == (len(kept), kept)
