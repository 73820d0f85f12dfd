"""Auxiliary images of the methods that need data: other classes than those of the classifiers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from experiments.jobs import ROOT
from netinv_lightning.data.outliers import emnist_letters

LETTERS = ROOT / "classifiers" / "methods" / "letters.npz"
CIFAR100 = "cifar100_subset_train.npz"
"""10,000 training images of CIFAR-100, if the folder of the data has them instead of all."""


def auxiliary_images(data: str) -> str:
    """Return the value of `method.auxiliary` for a data set; the letters are written if missing.

    The letters are the test split of EMNIST, which is smaller than the training split.
    """
    root = Path(os.environ["NETINV_DATA"])
    if data == "cifar10":
        return str(root / CIFAR100) if (root / CIFAR100).exists() else "cifar100"
    if not LETTERS.exists():
        images_nCHW, _ = emnist_letters(root, train=False)
        LETTERS.parent.mkdir(parents=True, exist_ok=True)
        np.savez(LETTERS, X=images_nCHW[:, 0].numpy())
    return str(LETTERS)
