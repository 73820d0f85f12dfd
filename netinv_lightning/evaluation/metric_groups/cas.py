"""Classification accuracy score: how useful the images are as training data.

Shape suffixes: m chosen images.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.classifiers.networks import CNN
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.metric_groups.group import TEST_IMAGES, MetricGroup
from netinv_lightning.evaluation.real_data import REAL_IMAGES, halves_of_test, of_split
from netinv_lightning.metrics.cas import ClassificationAccuracyScore


class CAS(MetricGroup):
    """Accuracy on real test images of a small CNN that is trained on the measured images."""

    needs = (TEST_IMAGES,)
    images_only = True

    @property
    def minimum(self) -> int:
        return self.context.classifier.spec.num_classes

    def compute(self, images: Images, outputs: Mapping[str, FeatureSet]) -> dict[str, float]:
        spec = self.context.classifier.spec
        make_network = partial(
            CNN,
            spec.num_classes,
            spec.channels,
            spec.image_size,
            stages=((16,), (32,), (64,)),
            hidden=64,
        )
        metric = self.context.metric(
            ClassificationAccuracyScore,
            make_network,
            self._test_images.images_nCHW,
            self._test_images.labels_n,
            self.context.seed,
        )
        chosen_m = self.context.choose(len(images.labels_n), REAL_IMAGES)
        metric.update(images.images_nCHW[chosen_m], images.labels_n[chosen_m])
        return {names.CAS: float(metric.compute())}

    @cached_property
    def _test_images(self) -> Images:
        """The half of the real test images on which networks trained on images are evaluated."""
        assert self.context.real is not None
        half, _ = halves_of_test(self.context.real)
        return of_split(half, REAL_IMAGES, self.context.seed).to(self.context.device)
