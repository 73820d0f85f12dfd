"""Agreement of the inverted classifier with the labels.

Shape suffixes: N classes.
"""

from __future__ import annotations

from collections.abc import Mapping

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.metric_groups.group import CLASSIFIER, MetricGroup


class Accuracy(MetricGroup):
    """Accuracy, confidence, margin and KL divergence of the inverted classifier."""

    reads = (CLASSIFIER,)

    def compute(self, images: Images, outputs: Mapping[str, FeatureSet]) -> dict[str, float]:
        value = self.context.agreement(images, outputs[""].logits_nN)
        confusion_NN = value["confusion_NN"].double()
        per_class_N = confusion_NN.diagonal() / confusion_NN.sum(dim=1)
        class_names = self.context.classifier.spec.class_names
        return {
            names.INVERSION_ACCURACY: float(value["accuracy"]),
            names.INVERSION_CONFIDENCE: float(value["confidence"]),
            names.INVERSION_MARGIN: float(value["margin"]),
            names.INVERSION_KL: float(value["kl"]),
            **{
                names.class_accuracy(label): float(accuracy)
                for label, accuracy in zip(class_names, per_class_N, strict=True)
            },
        }
