"""Reconstruction error of images, higher score = more out-of-distribution: the slides' semi-supervised kind (A5-6).

Shape suffixes: n images, C channels, H height, W width, P pixels of all channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.classifiers.features import BATCH, Seen
from netinv_lightning.interpretability.autoencoders import KSparse, train_autoencoder
from netinv_lightning.ood.detectors.known import Known

UNITS, ACTIVE, EPOCHS = 256, 32, 10
SIDE = 32
"""Larger images are averaged down to this side: the time of a step grows with the pixels."""


@dataclass(frozen=True)
class Reconstruction:
    """Mean squared error of an image, in pixels of [0, 1], under an autoencoder of the training images alone.

    The autoencoder is `KSparse` over the pixels: 32 of 256 hidden units are active, trained for 10 epochs whatever the loss. No
    labels are used and the classifier is not asked, so the score needs no features and is the same beside every network. What is
    simpler than the training images is reconstructed better than they are: dark or smooth images are not found. Beside the control,
    32 principal components of the pixels, it has an AUROC of 0.994 against 0.964 for FashionMNIST in MNIST, but 0.124 against 0.127
    for SVHN in CIFAR-10, and 0.941 against 0.943 the other way round: there it is no better than they are.

    Attributes:
        model: The trained autoencoder.
    """

    model: KSparse

    @classmethod
    def fit(cls, known: Known) -> Reconstruction:
        pixels_nP = _pixels(known.training.images_nCHW)
        model = KSparse(pixels_nP.shape[1], UNITS, ACTIVE, known.seed)
        train_autoencoder(model, pixels_nP, known.seed, EPOCHS)
        return cls(model.requires_grad_(False))

    @torch.no_grad()
    def __call__(self, seen: Seen) -> Tensor:
        parts = [_pixels(images_nCHW) for images_nCHW in seen.images_nCHW.split(BATCH)]
        return torch.cat(
            [
                (self.model(part_nP).double() - part_nP.double()).square().mean(dim=1)
                for part_nP in parts
            ]
        )


def _pixels(images_nCHW: Tensor) -> Tensor:
    if max(images_nCHW.shape[2:]) > SIDE:
        images_nCHW = F.adaptive_avg_pool2d(images_nCHW, SIDE)
    return images_nCHW.flatten(1).float()
