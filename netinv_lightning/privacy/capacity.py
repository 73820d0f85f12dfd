"""How many numbers the weights of a classifier hold, for each number of its training images."""

from __future__ import annotations

import math
from dataclasses import dataclass

from netinv_lightning.classifiers.frozen import FrozenClassifier


@dataclass(frozen=True)
class Capacity:
    """p / (d n), the condition of Iurada et al. 2025 (arXiv 2509.22214) for full reconstruction.

    They prove for random features, and observe for two-layer and residual networks, that the whole
    training set can be recovered from the weights once p is well above d n.

    Attributes:
        parameters: p, the number of weights.
        values: d, the number of values of one image.
        training_images: n.
    """

    parameters: int
    values: int
    training_images: int

    @property
    def ratio(self) -> float:
        return self.parameters / (self.values * self.training_images)

    def line(self) -> str:
        """Return the ratio and its meaning in one line."""
        meaning = (
            "above 1, the whole training set may be recoverable from the weights"
            if self.ratio > 1
            else "below 1, recovery of the whole training set is not expected; single images may "
            "leak"
        )
        return (
            f"p / (d n) = {self.ratio:.3g}: {self.parameters:,} parameters for "
            f"{self.training_images:,} training images of {self.values:,} values; {meaning} "
            "(Iurada et al. 2025, arXiv 2509.22214)"
        )


def capacity_of(classifier: FrozenClassifier, training_images: int) -> Capacity:
    """Return p, d and n of a classifier.

    Args:
        classifier: Its weights are counted without the running statistics of BatchNorm.
        training_images: Number of the images that it was trained on.
    """
    parameters = sum(weight.numel() for weight in classifier.network.parameters())
    return Capacity(parameters, math.prod(classifier.spec.shape), training_images)
