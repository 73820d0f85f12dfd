"""Predictions of a classifier for many images, in batches.

Shape suffixes: n images, C channels, H height, W width, N classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from netinv_lightning.classifiers.frozen import Classifier

EVALUATION_BATCH = 250


@torch.no_grad()
def predict(classifier: Classifier, images_nCHW: Tensor) -> Tensor:
    """Return the predicted classes of images, uint8 or in [0, 1]: [n], on the CPU."""
    return predict_logits(classifier, images_nCHW).argmax(dim=1)


@torch.no_grad()
def predict_logits(classifier: Classifier, images_nCHW: Tensor) -> Tensor:
    """Return the logits of images, uint8 or in [0, 1], in batches: [n, N], on the CPU."""
    device = classifier.mean_C11.device
    return torch.cat(
        [
            classifier(unit_range(part).to(device)).float().cpu()
            for part in images_nCHW.split(EVALUATION_BATCH)
        ]
    )


def unit_range(images_nCHW: Tensor) -> Tensor:
    """Return uint8 images in [0, 1]; images in [0, 1] are returned unchanged."""
    return images_nCHW.float() / 255 if images_nCHW.dtype == torch.uint8 else images_nCHW


def agreement(first_n: Tensor, second_n: Tensor) -> float:
    """Return the share of equal classes."""
    return float((first_n == second_n).double().mean())
