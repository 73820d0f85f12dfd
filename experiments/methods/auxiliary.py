"""Auxiliary images of the methods that need data: other classes than those of the classifiers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from experiments.jobs import ROOT
from netinv_lightning.data.outliers import emnist_letters

FOLDER = ROOT / "classifiers" / "methods"
CIFAR100 = "cifar100_subset_train.npz"
"""10,000 training images of CIFAR-100 in the folder of the data."""
FEWER = 5_000
"""Auxiliary images at equal cost, where the scores of all images would take the whole budget."""


def auxiliary_images(data: str, fewer: bool) -> str:
    """Return the value of `method.auxiliary` for a data set; its file is written if missing.

    The letters are the test split of EMNIST, which is smaller than the training split.
    """
    name = "cifar100" if data == "cifar10" else "letters"
    path = FOLDER / f"{name}{FEWER if fewer else ''}.npz"
    if not path.exists():
        x_n = _cifar100() if data == "cifar10" else _letters()
        if fewer:
            x_n = x_n[np.random.default_rng(0).permutation(len(x_n))[:FEWER]]
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, X=x_n)
    return str(path)


def _cifar100() -> np.ndarray:
    with np.load(Path(os.environ["NETINV_DATA"]) / CIFAR100) as arrays:
        images: np.ndarray = arrays["X"]
    return images


def _letters() -> np.ndarray:
    images_nCHW, _ = emnist_letters(Path(os.environ["NETINV_DATA"]), train=False)
    return images_nCHW[:, 0].numpy()
