"""Transfer of the images to the verifiers: top-1 and top-5 accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.inversion_accuracy import TOP
from netinv_lightning.evaluation.metric_groups.group import VERIFIERS, MetricGroup, with_mean
from netinv_lightning.evaluation.real_data import (
    NO_REAL_IMAGES,
    NO_TEST_IMAGES,
    REAL_IMAGES,
    of_split,
)


class Transfer(MetricGroup):
    """Accuracy of each verifier on the images, and its ceiling: the accuracy on real images."""

    reads = needs = (VERIFIERS,)

    def compute(self, images: Images, outputs: Mapping[str, FeatureSet]) -> dict[str, float]:
        agreement = {
            name: self.context.agreement(images, outputs[name].logits_nN)
            for name in self.context.verifiers
        }
        accuracy = {name: float(of["accuracy"]) for name, of in agreement.items()}
        metrics = with_mean(names.TRANSFER_ACCURACY, accuracy)
        if self.context.classifier.spec.num_classes > TOP:
            top5 = {name: float(of["top5"]) for name, of in agreement.items()}
            metrics |= with_mean(names.TRANSFER_TOP5, top5)
        return metrics | with_mean(names.TRANSFER_CEILING, self._ceiling)

    def skipped_metrics(self) -> dict[str, str]:
        if self.context.has_test_images:
            return {}
        why = NO_REAL_IMAGES if self.context.real is None else NO_TEST_IMAGES
        return {names.TRANSFER_CEILING: why}

    @cached_property
    def _ceiling(self) -> dict[str, float]:
        if not self.context.has_test_images:
            return {}
        assert self.context.real is not None
        test = of_split(self.context.real.test, REAL_IMAGES, self.context.seed)
        test = test.to(self.context.device)
        return {
            name: self._accuracy(test, self.context.extract(verifier, test))
            for name, verifier in self.context.verifiers.items()
        }

    def _accuracy(self, images: Images, outputs: FeatureSet) -> float:
        return float(self.context.agreement(images, outputs.logits_nN)["accuracy"])
