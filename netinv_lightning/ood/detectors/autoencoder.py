"""Reconstruction error of an autoencoder of the training images.

Shape suffixes: n images, C channels, H height, W width, P pixels of all channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.classifiers.features import BATCH, FeatureSet
from netinv_lightning.interpretability.autoencoders import KSparse, train_autoencoder
from netinv_lightning.ood.detectors.fit_data import FitData
from netinv_lightning.ood.detectors.scorer import FittedScorer

UNITS, ACTIVE, EPOCHS = 256, 32, 10
LARGEST_SIDE = 32
"""Larger images are downsampled to this side, because the time per step grows with the number of
pixels."""


@dataclass(frozen=True)
class AutoencoderError(FittedScorer):
    """Mean squared reconstruction error of an image, in pixels of [0, 1].

    The autoencoder is a `KSparse` of the pixels: 32 of 256 hidden units are active; it is trained
    on the training images for 10 epochs. It uses neither labels nor the classifier, so that it
    needs no features and gives the same scores for every network. Images simpler than the training
    images are reconstructed better than these: dark or smooth images are not detected. The AUROC of
    the autoencoder and of its baseline, 32 principal components of the pixels:

        in-distribution   OOD            autoencoder   components
        MNIST             FashionMNIST   0.994         0.964
        CIFAR-10          SVHN           0.124         0.127
        SVHN              CIFAR-10       0.941         0.943

    Attributes:
        model: The trained autoencoder.
    """

    model: KSparse

    @classmethod
    def fit(cls, fit_data: FitData) -> AutoencoderError:
        pixels_nP = _pixels(fit_data.training.images_nCHW)
        model = KSparse(pixels_nP.shape[1], UNITS, ACTIVE, fit_data.seed)
        train_autoencoder(model, pixels_nP, fit_data.seed, EPOCHS)
        return cls(model.requires_grad_(False))

    @torch.no_grad()
    def __call__(self, features: FeatureSet) -> Tensor:
        parts = [_pixels(images_nCHW) for images_nCHW in features.images_nCHW.split(BATCH)]
        return torch.cat(
            [
                (self.model(part_nP).double() - part_nP.double()).square().mean(dim=1)
                for part_nP in parts
            ]
        )


def _pixels(images_nCHW: Tensor) -> Tensor:
    if max(images_nCHW.shape[2:]) > LARGEST_SIDE:
        images_nCHW = F.adaptive_avg_pool2d(images_nCHW, LARGEST_SIDE)
    return images_nCHW.flatten(1).float()
