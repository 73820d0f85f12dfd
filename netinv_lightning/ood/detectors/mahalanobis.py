"""Mahalanobis distance in penultimate features.

Shape suffixes: n images, N classes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.data.splits import class_means
from netinv_lightning.ood.detectors.fit_data import FitData
from netinv_lightning.ood.detectors.scorer import FittedScorer

ROUNDING = 1e-10
"""A variance below this share of the largest is rounding error of float32 features."""


@dataclass(frozen=True)
class Mahalanobis(FittedScorer):
    """Squared Mahalanobis distance to the nearest class mean, with one covariance for all classes.

    Lee et al. 2018 (arXiv 1807.03888), last layer only. As with their pseudo-inverse, directions
    without variance in the training features are ignored.

    Attributes:
        means_ND: Class means.
        whitening_DD: Its product with its transpose is the inverse covariance.
    """

    means_ND: Tensor
    whitening_DD: Tensor
    needs_features: ClassVar[bool] = True

    @classmethod
    def fit(cls, fit_data: FitData) -> Mahalanobis:
        features_nD, labels_n = fit_data.training.features_nD.double(), fit_data.labels_n
        means_ND, _ = class_means(features_nD, labels_n)
        within_nD = features_nD - means_ND[labels_n]
        variance_D, axes_DD = torch.linalg.eigh(within_nD.T @ within_nD / len(within_nD))
        varies_D = variance_D > ROUNDING * variance_D[-1]
        return cls(means_ND, axes_DD[:, varies_D] / variance_D[varies_D].sqrt())

    def __call__(self, features: FeatureSet) -> Tensor:
        white_nD = features.features_nD.double() @ self.whitening_DD
        means_ND = self.means_ND @ self.whitening_DD
        distance_Nn = torch.stack([(white_nD - mean_D).square().sum(dim=1) for mean_D in means_ND])
        return distance_Nn.amin(dim=0)
