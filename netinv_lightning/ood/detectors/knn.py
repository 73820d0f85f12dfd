"""Distance to the k-th nearest neighbour in penultimate features.

Shape suffixes: n images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pytorch_ood import detector as pytorch_ood  # type: ignore[import-untyped]
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.ood.detectors.fit_data import FitData
from netinv_lightning.ood.detectors.scorer import FittedScorer

IMAGES_PER_NEIGHBOUR = 1000
"""k is the number of training images divided by this number: 50 for the 50,000 images of CIFAR-10,
as in Sun et al. 2022."""


@dataclass(frozen=True)
class KNN(FittedScorer):
    """Distance to the k-th nearest training image, in unit-normalised features.

    Sun et al. 2022 (arXiv 2204.06507).
    """

    knn: pytorch_ood.KNN
    needs_features: ClassVar[bool] = True

    @classmethod
    def fit(cls, fit_data: FitData) -> KNN:
        features_nD = fit_data.training.features_nD
        k = max(1, round(len(features_nD) / IMAGES_PER_NEIGHBOUR))
        return cls(pytorch_ood.KNN(None, k=k).fit_features(features_nD, fit_data.labels_n))

    def __call__(self, features: FeatureSet) -> Tensor:
        distance_n: Tensor = self.knn.predict_features(features.features_nD)
        return distance_n.double()
