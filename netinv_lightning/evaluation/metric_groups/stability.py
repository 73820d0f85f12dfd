"""Stability of the inverted classifier's predictions under small changes of the images.

Shape suffixes: B batch, m chosen images.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import BATCH, FeatureSet
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.metric_groups.group import MetricGroup
from netinv_lightning.metrics import stability

MOST_IMAGES = 2000


class Stability(MetricGroup):
    """Inversion accuracy after each disturbance of `metrics.stability.DISTURBANCES`."""

    images_only = True

    def compute(self, images: Images, outputs: Mapping[str, FeatureSet]) -> dict[str, float]:
        chosen_m = self.context.choose(len(images.labels_n), MOST_IMAGES)
        metric = self.context.metric(stability.Stability, seed=self.context.seed)
        for chosen_B in chosen_m.split(BATCH):
            metric.update(
                images.images_nCHW[chosen_B].contiguous(memory_format=torch.channels_last),
                images.labels_n[chosen_B],
                self.context.classifier,
            )
        return {
            names.stability(disturbance): float(value)
            for disturbance, value in metric.compute().items()
        }
