"""Data that detectors are fitted on; test images are never used.

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet, extract_features
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.noise import mixed_noise
from netinv_lightning.errors import InputError
from netinv_lightning.training.seeds import random_order

TUNING_IMAGES = 250
"""Largest number of validation images, and of outliers, that tune a detector."""
LAYER_IMAGES = 1000
"""Largest number of training images whose outputs of all layers are computed (OODL)."""


@dataclass(frozen=True)
class FitData:
    """Outputs of a classifier that detectors are fitted on.

    Attributes:
        classifier: The frozen classifier.
        training: Its outputs for training images.
        labels_n: Labels of the training images.
        validation: Its outputs for images of the same distribution that it was not trained on.
        outliers: Its outputs for the tuning outliers; no detector is evaluated on their data set.
        seed: Seed of every random choice.
    """

    classifier: FrozenClassifier
    training: FeatureSet
    labels_n: Tensor
    validation: FeatureSet
    outliers: FeatureSet
    seed: int

    def training_sample(self) -> Tensor:
        """Return a random sample of at most `LAYER_IMAGES` training images, [n, C, H, W]."""
        return _sample(self.training.images_nCHW, LAYER_IMAGES, self.seed)


def collect_fit_data(
    classifier: FrozenClassifier,
    training_nCHW: Tensor,
    labels_n: Tensor,
    validation_nCHW: Tensor,
    outliers_nCHW: Tensor | None = None,
    seed: int = 0,
    validation_labels_n: Tensor | None = None,
) -> FitData:
    """Run the classifier once on everything that detectors are fitted on.

    Args:
        classifier: The classifier, on any device.
        training_nCHW: Training images in [0, 1]. The time of KNN grows with their number.
        labels_n: Their labels, 0 to N - 1; each class occurs.
        validation_nCHW: Images that are neither training nor test images; a random sample of
            `TUNING_IMAGES` is used.
        outliers_nCHW: Images for tuning, from no data set that detectors are evaluated on; None for
            `tuning_noise`.
        seed: Seed of the noise and of the samples.
        validation_labels_n: Labels of the validation images, which temperature scaling needs.

    Raises:
        InputError: if the images do not fit the classifier, or the labels do not fit the images.
    """
    N = classifier.spec.num_classes
    if len(labels_n) != len(training_nCHW) or labels_n.unique().tolist() != list(range(N)):
        raise InputError(
            f"training: {len(training_nCHW)} images with {len(labels_n)} labels; must be one label "
            f"per image, from 0 to {N - 1}, and one or more images per class. Use more images"
        )
    if outliers_nCHW is None:
        outliers_nCHW = tuning_noise(validation_nCHW, TUNING_IMAGES, seed)
    training, validation, outliers = (
        extract_features(classifier, images_nCHW)
        for images_nCHW in (
            training_nCHW,
            _sample(validation_nCHW, TUNING_IMAGES, seed),
            _sample(outliers_nCHW, TUNING_IMAGES, seed),
        )
    )
    if validation_labels_n is not None:
        labels_of_sample_n = _sample(validation_labels_n.cpu(), TUNING_IMAGES, seed)
        validation = replace(validation, labels_n=labels_of_sample_n)
    return FitData(classifier, training, labels_n.cpu(), validation, outliers, seed)


def tuning_noise(like_nCHW: Tensor, count: int, seed: int) -> Tensor:
    """Return noise of the same shape, [count, C, H, W] in [0, 1].

    Half is uniform; half is Gaussian with mean 0.5 and standard deviation 0.5, clipped.
    """
    return mixed_noise(like_nCHW.shape[1:], count, seed)


def _sample(values: Tensor, count: int, seed: int) -> Tensor:
    """Return a random sample of images [n, C, H, W], or of their labels [n]."""
    return values[random_order(len(values), seed)[:count]]
