"""The interface of a group of metrics, and what all groups share.

Shape suffixes: n images, m chosen images, C channels, H height, W width, N classes, D features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import FeatureSet, extract_features
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.real_data import (
    NO_REAL_IMAGES,
    NO_TEST_IMAGES,
    REAL_IMAGES,
    of_split,
)
from netinv_lightning.metrics.accuracy import InversionAccuracy
from netinv_lightning.training.seeds import random_order

CLASSIFIER, VERIFIERS = "classifier", "verifiers"
TRAINING_IMAGES, TEST_IMAGES = "training images", "test images"
"""Values of `MetricGroup.needs`, besides `VERIFIERS`."""
NO_VERIFIERS = "no verifiers: set application.verifiers to networks that the inversion did not use"


@dataclass
class MetricContext:
    """Networks and real images with which sets of images are measured.

    Attributes:
        classifier: The inverted classifier.
        verifiers: Networks that the inversion did not use, by name.
        real: The real images; None if they are missing.
        seed: Seed of every random choice.
    """

    classifier: FrozenClassifier
    verifiers: Mapping[str, FrozenClassifier]
    real: ImageDataModule | None
    seed: int

    @property
    def device(self) -> torch.device:
        return self.classifier.mean_C11.device

    @property
    def has_test_images(self) -> bool:
        return self.real is not None and len(self.real.test[1]) > 1

    @cached_property
    def training_features(self) -> dict[str, Tensor]:
        """Each verifier's features of real training images, [m, D]."""
        assert self.real is not None
        train = of_split(self.real.train, REAL_IMAGES, self.seed).to(self.device)
        return {
            name: self.extract(verifier, train).features_nD
            for name, verifier in self.verifiers.items()
        }

    def extract(self, network: FrozenClassifier, images: Images) -> FeatureSet:
        """Return logits and features (of the last feature layer) of the images, on the device."""
        return extract_features(
            network,
            images.images_nCHW,
            layer=network.feature_layers[-1],
            device=self.device,
        )

    def metric(self, make: Callable[..., Metric], *args: Any, **keywords: Any) -> Metric:
        """Create a torchmetrics metric on the device; it is not synchronised between processes."""
        return make(*args, **keywords, sync_on_compute=False).to(self.device)

    def choose(self, n: int, most: int) -> Tensor:
        """Return the indices of n images in random order, at most `most` of them."""
        return random_order(n, self.seed)[:most].to(self.device)

    def agreement(self, images: Images, logits_nN: Tensor) -> dict[str, Tensor]:
        """Compare logits with the labels and the conditioning distributions of the images."""
        N = self.classifier.spec.num_classes
        targets_nN = images.targets_nN
        metric = self.metric(InversionAccuracy, num_classes=N)
        metric.update(
            logits_nN,
            images.labels_n,
            F.one_hot(images.labels_n, N) if targets_nN is None else targets_nN,
        )
        computed: dict[str, Tensor] = metric.compute()
        return computed


class MetricGroup(ABC):
    """Metrics of a set of images that are computed together.

    A group whose `needs` are not met is skipped, with the reason.

    Attributes:
        reads: Networks whose outputs `compute` reads: `CLASSIFIER`, `VERIFIERS`.
        needs: What must exist: `VERIFIERS`, `TRAINING_IMAGES`, `TEST_IMAGES`.
        images_only: Whether it is defined for images, and not for signals and tables.
        context: Networks and real images.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    images_only: ClassVar[bool] = False

    def __init__(self, context: MetricContext) -> None:
        self.context = context

    @property
    def minimum(self) -> int:
        """The smallest number of images that the metrics are defined for."""
        return 1

    @abstractmethod
    def compute(self, images: Images, outputs: Mapping[str, FeatureSet]) -> dict[str, float]:
        """Return metric names and values.

        Args:
            images: The set of images, on the device of the classifier.
            outputs: Outputs of the networks in `reads`: "" for the classifier, and each verifier
                by its name.
        """

    def reason_to_skip(self) -> str | None:
        """Return why the group cannot be computed for any images; None if it can."""
        real, modality = self.context.real, self.context.classifier.spec.modality
        if self.images_only and modality != "images":
            return f"is defined for images only, and the classifier takes {modality}"
        if VERIFIERS in self.needs and not self.context.verifiers:
            return NO_VERIFIERS
        if real is None:
            return NO_REAL_IMAGES if {TRAINING_IMAGES, TEST_IMAGES} & {*self.needs} else None
        if TEST_IMAGES in self.needs and not self.context.has_test_images:
            return NO_TEST_IMAGES
        count = len(real.train[1])
        if TRAINING_IMAGES in self.needs and count < self.minimum:
            return f"only {count} real training images; at least {self.minimum} are needed"
        return None

    def skipped_metrics(self) -> dict[str, str]:
        """Return the individual metrics of the group that cannot be computed, with the reason."""
        return {}


class RealFeatureMetrics(MetricGroup):
    """Metrics that compare images with real training images in the features of each verifier."""

    reads = (VERIFIERS,)
    needs = (VERIFIERS, TRAINING_IMAGES)

    def compute(self, images: Images, outputs: Mapping[str, FeatureSet]) -> dict[str, float]:
        return {
            names.of_network(name, verifier): value
            for verifier in self.context.training_features
            for name, value in self.compare(verifier, outputs[verifier].features_nD).items()
        }

    @abstractmethod
    def compare(self, verifier: str, features_nD: Tensor) -> dict[str, float]:
        """Return metric names and values for the features of one verifier."""
