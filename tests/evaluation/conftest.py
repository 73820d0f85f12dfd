"""A measurement of MNIST with two verifiers, and noise to be measured."""

from __future__ import annotations

import pytest
import torch

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.measurement import Measurement

VERIFIERS = ("mnist_resnet", "mnist_mlp")


def networks() -> dict[str, FrozenClassifier]:
    return {name: load_zoo(name) for name in VERIFIERS}


@pytest.fixture(scope="module")
def real() -> ImageDataModule:
    return ImageDataModule(name="mnist5k")


@pytest.fixture(scope="module")
def measurement(real: ImageDataModule) -> Measurement:
    return Measurement(load_zoo("mnist_cnn"), networks(), real)


def noise(n: int = 200) -> Images:
    return Images(
        torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 10
    )
