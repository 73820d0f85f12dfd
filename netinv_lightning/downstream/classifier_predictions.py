"""Predictions of a classifier for many images, in batches.

Shape suffixes: n images, C channels, H height, W width, N classes.
"""

from __future__ import annotations

from torch import Tensor

from netinv_lightning.classifiers.features import extract_logits
from netinv_lightning.classifiers.wrapper import Classifier

EVALUATION_BATCH = 250


def predict(classifier: Classifier, images_nCHW: Tensor) -> Tensor:
    """Return the predicted classes of images, uint8 or in [0, 1]: [n], on the CPU."""
    return predict_logits(classifier, images_nCHW).argmax(dim=1)


def predict_logits(classifier: Classifier, images_nCHW: Tensor) -> Tensor:
    """Return the logits of images, uint8 or in [0, 1], in batches: [n, N], on the CPU."""
    return extract_logits(classifier, images_nCHW, EVALUATION_BATCH)


def agreement(first_n: Tensor, second_n: Tensor) -> float:
    """Return the share of equal classes."""
    return float((first_n == second_n).double().mean())
