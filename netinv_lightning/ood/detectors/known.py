"""What detectors may be fitted on: training images, validation images, stand-ins for outliers. Never a test split.

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from netinv_lightning.classifiers.features import Seen, look
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.errors import InputError

TUNING_IMAGES = 250
"""At most so many validation images, and outliers, tune a detector."""
LAYER_IMAGES = 1000
"""At most so many training images, chosen at random, are seen in all layers (OODL)."""


@dataclass(frozen=True)
class Known:
    """What there is to fit a detector on.

    Attributes:
        classifier: The classifier, frozen.
        training: Its training images.
        labels_n: Their labels.
        validation: Images of the same distribution that it was not trained on.
        outliers: Stand-ins for what is out of distribution, from no data set that a detector is judged by.
        seed: Of every random choice.
    """

    classifier: FrozenClassifier
    training: Seen
    labels_n: Tensor
    validation: Seen
    outliers: Seen
    seed: int

    def of_training(self) -> Tensor:
        """At most `LAYER_IMAGES` of the training images, at random, [n, C, H, W]."""
        return _choice(self.training.images_nCHW, LAYER_IMAGES, self.seed)


def gather(
    classifier: FrozenClassifier,
    training_nCHW: Tensor,
    labels_n: Tensor,
    validation_nCHW: Tensor,
    outliers_nCHW: Tensor | None = None,
    seed: int = 0,
) -> Known:
    """Passes all that detectors are fitted on through the classifier, once.

    Args:
        classifier: The classifier, on any device.
        training_nCHW: Training images in [0, 1]; the time of KNN grows with their number.
        labels_n: Their labels, 0 to N - 1; each occurs.
        validation_nCHW: Images held out of training, and not of the test split; a random `TUNING_IMAGES` of them are taken.
        outliers_nCHW: Images held out for tuning, not of a set that detectors are judged by; None for `noise`.
        seed: Of the noise and of the choice of images.

    Raises:
        InputError: if images are none for this classifier, or labels do not go with them.
    """
    N = classifier.spec.num_classes
    if len(labels_n) != len(training_nCHW) or labels_n.unique().tolist() != list(range(N)):
        raise InputError(
            f"training: {len(training_nCHW)} images with {len(labels_n)} labels; must be one label an image, from 0 to {N - 1}, "
            "and images of every class; take more of them"
        )
    if outliers_nCHW is None:
        outliers_nCHW = noise(validation_nCHW, TUNING_IMAGES, seed)
    validation_nCHW, outliers_nCHW = (
        _choice(images, TUNING_IMAGES, seed) for images in (validation_nCHW, outliers_nCHW)
    )
    training, validation, outliers = (
        look(classifier, images) for images in (training_nCHW, validation_nCHW, outliers_nCHW)
    )
    return Known(classifier, training, labels_n.cpu(), validation, outliers, seed)


def noise(like_nCHW: Tensor, count: int, seed: int) -> Tensor:
    """Noise of the given images' shape, [count, C, H, W] in [0, 1]: half uniform, half Gaussian with mean and deviation 0.5, clipped."""
    generator = torch.Generator().manual_seed(seed)
    shape = like_nCHW.shape[1:]
    uniform = torch.rand(count - count // 2, *shape, generator=generator)
    gaussian = (0.5 + 0.5 * torch.randn(count // 2, *shape, generator=generator)).clamp(0, 1)
    return torch.cat([uniform, gaussian])


def _choice(images_nCHW: Tensor, most: int, seed: int) -> Tensor:
    return images_nCHW[
        torch.randperm(len(images_nCHW), generator=torch.Generator().manual_seed(seed))[:most]
    ]
