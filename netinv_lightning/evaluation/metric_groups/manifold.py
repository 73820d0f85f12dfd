"""Precision, density, recall and coverage of the images against real training images.

Shape suffixes: n images, m real images, D features.
"""

from __future__ import annotations

from functools import cached_property

from torch import Tensor
from torchmetrics import Metric

from netinv_lightning import metric_names as names
from netinv_lightning.evaluation.metric_groups.group import RealFeatureMetrics
from netinv_lightning.metrics import manifold

MOST_IMAGES = 10_000
NAMES = {
    "precision": names.PRECISION,
    "density": names.DENSITY,
    "recall": names.RECALL,
    "coverage": names.COVERAGE,
}


class Manifold(RealFeatureMetrics):
    """Nearest-neighbour metrics in the features of each verifier."""

    @property
    def minimum(self) -> int:
        return manifold.NEIGHBOURS + 1

    def compare(self, verifier: str, features_nD: Tensor) -> dict[str, float]:
        metric = self._metrics[verifier]
        metric.reset()
        metric.update(features_nD[self.context.choose(len(features_nD), MOST_IMAGES)])
        computed = metric.compute()
        return {name: float(computed[key]) for key, name in NAMES.items()}

    @cached_property
    def _metrics(self) -> dict[str, Metric]:
        return {
            name: self.context.metric(manifold.Manifold, real_mD)
            for name, real_mD in self.context.training_features.items()
        }
