"""Classifier two-sample test against real training images.

Shape suffixes: n images, m real images, D features.
"""

from __future__ import annotations

from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.evaluation.metric_groups.group import RealFeatureMetrics
from netinv_lightning.metrics.two_sample import TwoSample


class C2ST(RealFeatureMetrics):
    """Accuracy of the two-sample test in the features of each verifier."""

    @property
    def minimum(self) -> int:
        return 20

    def compare(self, verifier: str, features_nD: Tensor) -> dict[str, float]:
        real_mD = self.context.training_features[verifier]
        metric = self.context.metric(TwoSample, real_mD, self.context.seed)
        metric.update(features_nD)
        return {names.C2ST: float(metric.compute())}
