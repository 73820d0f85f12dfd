"""Classifier two-sample test against real training images.

Shape suffixes: m real images, D features.
"""

from __future__ import annotations

from collections.abc import Mapping

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.metric_groups.group import (
    TRAINING_IMAGES,
    VERIFIERS,
    MetricGroup,
)
from netinv_lightning.metrics.fidelity import TwoSample


class C2ST(MetricGroup):
    """Accuracy of the two-sample test in the features of each verifier."""

    reads = (VERIFIERS,)
    needs = (VERIFIERS, TRAINING_IMAGES)

    @property
    def minimum(self) -> int:
        return 20

    def compute(self, images: Images, outputs: Mapping[str, FeatureSet]) -> dict[str, float]:
        values = {}
        for verifier, real_mD in self.context.training_features.items():
            metric = self.context.metric(TwoSample, real_mD, self.context.seed)
            metric.update(outputs[verifier].features_nD)
            values[names.of_network(names.C2ST, verifier)] = float(metric.compute())
        return values
