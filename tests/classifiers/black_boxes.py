"""Black boxes that the tests name by `classifier.callable`."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier

not_a_function = 3
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
