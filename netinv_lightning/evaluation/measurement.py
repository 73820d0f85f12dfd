"""Measure a set of images with the inverted classifier, other networks and real images.

Distributions are compared with real training images in the features of the verifiers, because the
features of the inverted classifier favour adversarial images. The accuracy on real test images is
the ceiling of the transfer accuracy. The network that is trained on the measured images (CAS) is
evaluated on one half of the test images; the other half may be measured as a baseline. Each network
classifies each image once.

Shape suffixes: n images, C channels, H height, W width, N classes, D features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pkgutil import resolve_name

import torch

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.verifiers import check_verifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError, nearest
from netinv_lightning.evaluation.image_sets import Images, check_images
from netinv_lightning.evaluation.metric_groups.group import (
    CLASSIFIER,
    VERIFIERS,
    MetricContext,
    MetricGroup,
)
from netinv_lightning.evaluation.real_data import check_real
from netinv_lightning.metric_names import METRIC_GROUPS

MOST_NOTES = 20
"""Largest number of classes without images that are listed; if there are more, they are counted."""


class Measurement:
    """Measures sets of images: `measurement(images)` returns metric names and values.

    Metrics that cannot be computed are left out. `skipped` maps each of them, or its whole group,
    to the reason. Every process measures whole sets; nothing is summed over processes.

    Args:
        classifier: The inverted classifier.
        verifiers: Networks that the inversion did not use, by name.
        real: The real images; None if they are missing.
        metrics: Names of metric groups, from `metric_names.METRIC_GROUPS`.
        seed: Seed of every random choice.

    Raises:
        InputError: if a group is unknown, a verifier has the weights of the classifier, or the
            shapes of networks and data differ.
    """

    def __init__(
        self,
        classifier: FrozenClassifier,
        verifiers: Mapping[str, FrozenClassifier],
        real: ImageDataModule | None,
        metrics: Sequence[str] = tuple(METRIC_GROUPS),
        seed: int = 0,
    ) -> None:
        for name, verifier in verifiers.items():
            check_verifier(name, verifier, classifier)
            _check_size(name, verifier, classifier)
        if real is not None:
            check_real(real, classifier.spec)
        device = classifier.mean_C11.device
        self.context = MetricContext(
            classifier=classifier,
            verifiers={name: verifier.to(device) for name, verifier in verifiers.items()},
            real=real,
            seed=seed,
        )
        self.groups: dict[str, MetricGroup] = {}
        self._always_skipped: dict[str, str] = {}
        for name, group in _create_groups(metrics, self.context).items():
            if reason := group.reason_to_skip():
                self._always_skipped[name] = reason
            else:
                self.groups[name] = group
        for group in self.groups.values():
            self._always_skipped |= group.skipped_metrics()
        self.skipped = dict(self._always_skipped)

    @property
    def minimum(self) -> int:
        """The smallest number of images that all chosen metrics can be computed from."""
        return max((group.minimum for group in self.groups.values()), default=1)

    @torch.no_grad()
    def __call__(self, images: Images) -> dict[str, float]:
        """Measure a set of images.

        Raises:
            InputError: as `check`.
        """
        self.check(images)
        images = images.to(self.context.device)
        outputs = {
            name: self.context.extract(network, images)
            for name, network in self._networks().items()
        }
        values: dict[str, float] = {}
        for group in self.groups.values():
            values |= group.compute(images, outputs)
        undefined = {
            name: "is undefined for these images"
            for name, value in values.items()
            if not math.isfinite(value)
        }
        self.skipped = self._always_skipped | undefined
        return {name: value for name, value in values.items() if name not in undefined}

    def check(self, images: Images) -> None:
        """Check that the images can be measured.

        Raises:
            InputError: if there are too few images, they have another shape than the classifier's
                input, or pixels lie outside [0, 1].
        """
        if (n := len(images.labels_n)) < self.minimum:
            name = max(self.groups, key=lambda name: self.groups[name].minimum)
            raise InputError(
                f"samples={n}: too few images. measure.metrics={name} needs {self.minimum} or "
                f"more. Use more images, or remove {name} from measure.metrics"
            )
        check_images(images, self.context.classifier.spec)

    def _networks(self) -> dict[str, FrozenClassifier]:
        """The networks whose outputs the groups read; the inverted classifier has the name ""."""
        read = {network for group in self.groups.values() for network in group.reads}
        classifier = {"": self.context.classifier} if CLASSIFIER in read else {}
        return classifier | (dict(self.context.verifiers) if VERIFIERS in read else {})


def notes_of_skipped(skipped: Mapping[str, str]) -> list[str]:
    """Return a line per skipped metric; if many classes have no images, they share one line."""
    of_classes = [name for name in skipped if name.startswith(names.class_accuracy(""))]
    hidden = set(of_classes) if len(of_classes) > MOST_NOTES else set()
    notes = [f"skipped: {name}: {why}" for name, why in skipped.items() if name not in hidden]
    if hidden:
        notes.append(f"skipped: the accuracies of {len(hidden)} classes without images")
    return notes


def _create_groups(metrics: Sequence[str], context: MetricContext) -> dict[str, MetricGroup]:
    """Create the chosen groups, in the order of the registry."""
    for name in metrics:
        if name not in METRIC_GROUPS:
            raise InputError(
                f"measure.metrics={name}: is not a group of metrics; {nearest(name, METRIC_GROUPS)}"
            )
    return {
        name: resolve_name(path)(context) for name, path in METRIC_GROUPS.items() if name in metrics
    }


def _check_size(name: str, verifier: FrozenClassifier, classifier: FrozenClassifier) -> None:
    its, needed = verifier.spec.shape, classifier.spec.shape
    if its != needed:
        raise InputError(
            f"application.verifiers={name}: takes images of shape {list(its)}, but the inverted "
            f"classifier takes {list(needed)}. Resize the images for the verifier with "
            "netinv_lightning.classifiers.verifiers.resized"
        )
