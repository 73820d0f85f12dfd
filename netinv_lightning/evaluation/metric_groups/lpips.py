"""Perceptual distance between images of the same class.

Shape suffixes: m chosen images.
"""

from __future__ import annotations

from collections.abc import Mapping

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.metric_groups.group import MetricGroup
from netinv_lightning.metrics.lpips import ClassLPIPS, lpips_missing

MOST_IMAGES = 1000


class LPIPS(MetricGroup):
    """LPIPS between pairs of a class; needs the weights of AlexNet in the cache of torch.hub."""

    @property
    def minimum(self) -> int:
        return 2  # a pair

    def compute(self, images: Images, outputs: Mapping[str, FeatureSet]) -> dict[str, float]:
        chosen_m = self.context.choose(len(images.labels_n), MOST_IMAGES)
        metric = self.context.metric(ClassLPIPS)
        metric.update(images.images_nCHW[chosen_m], images.labels_n[chosen_m])
        return {names.LPIPS: float(metric.compute())}

    def reason_to_skip(self) -> str | None:
        spec = self.context.classifier.spec
        if spec.modality != "images" or spec.channels not in (1, 3):
            return "is for images with 1 or 3 channels"
        return lpips_missing()
