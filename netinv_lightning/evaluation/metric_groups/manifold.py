"""Precision, density, recall and coverage of the images against real training images.

Shape suffixes: m chosen images, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from torchmetrics import Metric

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.metric_groups.group import (
    TRAINING_IMAGES,
    VERIFIERS,
    MetricGroup,
)
from netinv_lightning.metrics import manifold

MOST_IMAGES = 10_000
NAMES = {
    "precision": names.PRECISION,
    "density": names.DENSITY,
    "recall": names.RECALL,
    "coverage": names.COVERAGE,
}


class Manifold(MetricGroup):
    """Nearest-neighbour metrics in the features of each verifier."""

    reads = (VERIFIERS,)
    needs = (VERIFIERS, TRAINING_IMAGES)

    @property
    def minimum(self) -> int:
        return manifold.NEIGHBOURS + 1

    def compute(self, images: Images, outputs: Mapping[str, FeatureSet]) -> dict[str, float]:
        values = {}
        chosen_m = self.context.choose(len(images.labels_n), MOST_IMAGES)
        for verifier, metric in self._metrics.items():
            metric.reset()
            metric.update(outputs[verifier].features_nD[chosen_m])
            computed = metric.compute()
            for key, name in NAMES.items():
                values[names.of_network(name, verifier)] = float(computed[key])
        return values

    @cached_property
    def _metrics(self) -> dict[str, Metric]:
        return {
            name: self.context.metric(manifold.Manifold, real_mD)
            for name, real_mD in self.context.training_features.items()
        }
