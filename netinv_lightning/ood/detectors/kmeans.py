"""Distance to the nearest k-means centre of the penultimate features.

Shape suffixes: n images, D features, k centres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.ood.detectors.fit_data import FitData
from netinv_lightning.ood.detectors.scorer import FittedScorer

RESTARTS = 10


@dataclass(frozen=True)
class KMeansDistance(FittedScorer):
    """Distance to the nearest k-means centre in standardised features; it uses no labels.

    There are as many centres as classes. Each feature is standardised because the scale of a hidden
    unit is arbitrary: in a ReLU network a unit can be multiplied by 10 and its outgoing weights
    divided by 10 without a change of the function. The features are not whitened, because whitening
    weighs uninformative directions as much as those that separate the classes (adjusted mutual
    information of clusters and classes, training images of cifar10_resnet: 0.60 whitened, 0.71
    standardised). They are not normalised to unit length as for `KNN`, because the length is
    informative: images that hardly activate a unit are unlike the training images.

    Attributes:
        scaler: Standardises the features.
        kmeans: The centres.
    """

    scaler: StandardScaler
    kmeans: KMeans
    needs_features: ClassVar[bool] = True

    @classmethod
    def fit(cls, fit_data: FitData) -> KMeansDistance:
        values_nD = fit_data.training.features_nD.double().numpy()
        scaler = StandardScaler().fit(values_nD)
        centres = fit_data.classifier.spec.num_classes
        with threadpool_limits(1):  # the result must not depend on the number of cores
            kmeans = KMeans(centres, n_init=RESTARTS, random_state=fit_data.seed).fit(
                scaler.transform(values_nD)
            )
        return cls(scaler, kmeans)

    def __call__(self, features: FeatureSet) -> Tensor:
        values_nD = features.features_nD.double().numpy()
        distance_nk = self.kmeans.transform(self.scaler.transform(values_nD))
        return torch.from_numpy(distance_nk).amin(dim=1)
