"""The images of `application=detect_ood`: of the classifier's own data set, and of others.

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.outlier_names import called
from netinv_lightning.data.outliers import outliers
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.real_data import of_split
from netinv_lightning.ood.detectors import FitData, collect_fit_data

LEAST_SAMPLES = 100
"""Least number of training images, and of test images."""


@dataclass(frozen=True)
class DetectionData:
    """The images that detectors are fitted on and evaluated on.

    Attributes:
        name: Name of the in-distribution data.
        classes: Names of the classes that were selected from it; empty for all.
        training: In-distribution images that detectors are fitted on.
        validation: In-distribution images that some detectors are tuned on.
        test: In-distribution images of the evaluation.
        outside: OOD images [n, C, H, W] of the evaluation, by the name of their set.
    """

    name: str
    classes: Sequence[str]
    training: Images
    validation: Images
    test: Images
    outside: dict[str, Tensor]

    @property
    def evaluated(self) -> dict[str, Tensor]:
        """All images of the evaluation by the name of their set, in-distribution first."""
        return {self.name: self.test.images_nCHW, **self.outside}

    def fit_data(self, classifier: FrozenClassifier, seed: int) -> FitData:
        """Run the classifier on everything that detectors are fitted on.

        Raises:
            InputError: as `collect_fit_data`.
        """
        training, validation = self.training, self.validation
        return collect_fit_data(
            classifier,
            training.images_nCHW,
            training.labels_n,
            validation.images_nCHW,
            seed=seed,
            validation_labels_n=validation.labels_n,
        )


def detection_data(
    data: Mapping[str, Any],
    real: ImageDataModule,
    spec: DataSpec,
    *,
    outlier_names: Sequence[str],
    samples: int,
    seed: int,
) -> DetectionData:
    """Choose the images.

    Args:
        data: The config keys `data`.
        real: The data that they describe.
        spec: Facts of the data that the classifier was trained on.
        outlier_names: Names of the OOD sets.
        samples: Largest number of images of each set.
        seed: Seed of every choice.

    Raises:
        InputError: if there are too few images, or an OOD set is missing.
    """
    if min(len(real.train[1]), len(real.test[1])) < LEAST_SAMPLES:
        raise InputError(
            f"data={data['name']}: must have at least {LEAST_SAMPLES} training and test images"
        )
    if not len(real.val[1]):
        raise InputError(
            f"data.val_fraction={data['val_fraction']}: must be above 0. Some detectors are "
            "tuned on validation images"
        )
    training, validation, test = (
        of_split(split, samples, seed) for split in (real.train, real.val, real.test)
    )
    outside = {
        called(name): outliers(name, spec, samples, seed, Path(data["root"]), real=real)
        for name in outlier_names
    }
    classes = () if data["classes"] is None else spec.class_names
    return DetectionData(data["name"], classes, training, validation, test, outside)
