"""Black boxes that the tests name by `classifier.callable`, and images for them."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import DataSpec

not_a_function = 3
SPEC = DataSpec("own", 3, 1, 8, (0.0,), (1.0,), tuple("abc"))
LINEAR_NP = np.random.default_rng(0).normal(scale=0.25, size=(3, 64)).astype(np.float32)
"""Weights of a linear classifier of 3 classes and 8 x 8 pixels."""


def linear_softmax(x_BCHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities of a linear classifier."""
    logits = x_BCHW.reshape(len(x_BCHW), -1) @ LINEAR_NP.T
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


@cache
def _zoo(name: str) -> FrozenClassifier:
    return load_zoo(name)


def mnist_mlp(x_BCHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities of the zoo's MLP for MNIST."""
    with torch.no_grad():
        probabilities: NDArray[np.float32] = (
            _zoo("mnist_mlp")(torch.from_numpy(x_BCHW)).softmax(dim=1).numpy()
        )
    return probabilities


def grey(B: int) -> Tensor:
    """Return images far enough from 0 and 1 that no query is clamped."""
    x_BCHW = torch.rand(B, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return 0.4 + 0.2 * x_BCHW
