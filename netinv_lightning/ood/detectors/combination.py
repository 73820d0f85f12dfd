"""Sum of detectors of different kinds.

Shape suffixes: n images, Q detectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.ood.detectors.fit_data import FitData
from netinv_lightning.ood.detectors.knn import KNN
from netinv_lightning.ood.detectors.logit_scores import energy
from netinv_lightning.ood.detectors.mahalanobis import Mahalanobis
from netinv_lightning.ood.detectors.scorer import FittedScorer

SMALLEST = 1e-12
"""Lower limit of a standard deviation."""


@dataclass(frozen=True)
class Combination(FittedScorer):
    """Sum of KNN distance, Mahalanobis distance and energy, each in standard deviations.

    CombOOD (Rajasekaran et al. 2024, SIAM Data Mining) combines the first two. The energy adds what
    the logits know. The members are fixed; means and standard deviations are those of validation
    images, so that no outliers are used.

    Attributes:
        knn: The first member.
        mahalanobis: The second member.
        mean_Q: Mean of each member over the validation images.
        std_Q: Its standard deviation.
    """

    knn: KNN
    mahalanobis: Mahalanobis
    mean_Q: Tensor
    std_Q: Tensor
    needs_features: ClassVar[bool] = True

    @classmethod
    def fit(cls, fit_data: FitData) -> Self:
        knn, mahalanobis = KNN.fit(fit_data), Mahalanobis.fit(fit_data)
        scores_nQ = _members(knn, mahalanobis, fit_data.validation)
        return cls(
            knn, mahalanobis, scores_nQ.mean(dim=0), scores_nQ.std(dim=0).clamp_min(SMALLEST)
        )

    def __call__(self, features: FeatureSet) -> Tensor:
        scores_nQ = _members(self.knn, self.mahalanobis, features)
        return ((scores_nQ - self.mean_Q) / self.std_Q).sum(dim=1)


def _members(knn: KNN, mahalanobis: Mahalanobis, features: FeatureSet) -> Tensor:
    """Return the scores [n, Q]; the squared Mahalanobis distance becomes a distance."""
    distance_n = mahalanobis(features).sqrt()
    return torch.stack([knn(features), distance_n, energy(features.logits_nN)], dim=1)
