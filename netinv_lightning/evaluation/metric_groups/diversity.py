"""Diversity of the images of a class, and separation of the classes.

Shape suffixes: n images, N classes, D features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.metric_groups.group import CLASSIFIER, VERIFIERS, MetricGroup
from netinv_lightning.metrics.diversity import ClassCosine, Duplicates, Vendi

VENDI_FEATURES = 2048
"""Largest number of features for which the Vendi score is computed."""
VENDI_ENTRIES = 2**26
"""Largest total size of the class matrices for which the Vendi score is computed per class."""


class Diversity(MetricGroup):
    """Share of duplicates, and cosines and Vendi scores in the features of each network."""

    reads = (CLASSIFIER, VERIFIERS)

    @property
    def minimum(self) -> int:
        return 2  # a pair

    def compute(self, images: Images, outputs: Mapping[str, FeatureSet]) -> dict[str, float]:
        duplicates = self.context.metric(Duplicates)
        duplicates.update(images.images_nCHW, images.labels_n)
        values = {names.DUPLICATES: float(duplicates.compute())}
        for network, of in outputs.items():
            for name, value in self._similarity(of.features_nD, images.labels_n).items():
                values[names.of_network(name, network)] = value
        return values

    def skipped_metrics(self) -> dict[str, str]:
        """Return the Vendi scores whose matrices would be too large."""
        skipped, N = {}, self.context.classifier.spec.num_classes
        for network, of in {"": self.context.classifier, **self.context.verifiers}.items():
            D = of.feature_dims[of.feature_layers[-1]]
            computed = {
                names.VENDI: _pooled_is_computed(D),
                names.VENDI_CLASS: _classes_are_computed(N, D),
            }
            for name in (name for name, is_computed in computed.items() if not is_computed):
                skipped[names.of_network(name, network)] = (
                    f"too many features ({D}) or classes ({N}) to compute it"
                )
        return skipped

    def _similarity(self, f_nD: Tensor, label_n: Tensor) -> dict[str, float]:
        N, D = self.context.classifier.spec.num_classes, f_nD.shape[1]
        cosine = self.context.metric(ClassCosine, N, D)
        cosine.update(f_nD, label_n)
        computed = cosine.compute()
        values = {
            names.INTRA_CLASS_COSINE: float(computed["intra"]),
            names.INTER_CLASS_COSINE: float(computed["inter"]),
        }
        if not _pooled_is_computed(D):
            return values
        per_class = _classes_are_computed(N, D)
        vendi = self.context.metric(Vendi, N if per_class else 1, D)
        vendi.update(f_nD, label_n if per_class else torch.zeros_like(label_n))
        computed = vendi.compute()
        values[names.VENDI] = float(computed["pooled"])
        return values | ({names.VENDI_CLASS: float(computed["class_mean"])} if per_class else {})


def _pooled_is_computed(D: int) -> bool:
    return D <= VENDI_FEATURES


def _classes_are_computed(N: int, D: int) -> bool:
    return _pooled_is_computed(D) and N * (D + 1) ** 2 <= VENDI_ENTRIES
