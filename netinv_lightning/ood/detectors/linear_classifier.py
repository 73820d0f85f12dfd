"""LC, the linear classifier of the slides.

Shape suffixes: n images, N classes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.ood.detectors.fit_data import FitData
from netinv_lightning.ood.detectors.scorer import FittedScorer


@dataclass(frozen=True)
class LinearClassifierScore(FittedScorer):
    """Smallest signed distance to the class boundaries: LC of the slides (Taparia).

    The slides describe LC by "linear separability" and "OOD samples are far from class boundaries".
    Here each class has a logistic regression on standardised penultimate features, class against
    rest; its hyperplane is the boundary of the class. The score is the signed distance to the
    hyperplane, positive on the outer side, minimised over the classes: above 0, every class rejects
    the image. The unsigned distance would be largest for the most typical images: for MNIST against
    noise its AUROC is 0.04 to 0.11.

    Attributes:
        normals_ND: Normals of the hyperplanes for unscaled features; unit length in standardised
            features.
        offsets_N: Offsets of the hyperplanes.
    """

    normals_ND: Tensor
    offsets_N: Tensor
    needs_features: ClassVar[bool] = True

    @classmethod
    def fit(cls, fit_data: FitData) -> LinearClassifierScore:
        features_nD = fit_data.training.features_nD.double().numpy()
        scaler = StandardScaler().fit(features_nD)
        scaled_nD = scaler.transform(features_nD)
        normals, offsets = [], []
        with threadpool_limits(1):  # the result must not depend on the number of cores
            for label in range(fit_data.classifier.spec.num_classes):
                regression = LogisticRegression(max_iter=1000).fit(
                    scaled_nD, fit_data.labels_n.numpy() == label
                )
                normal_D = torch.from_numpy(regression.coef_[0])
                normals.append(normal_D / normal_D.norm() / torch.from_numpy(scaler.scale_))
                offsets.append(float(regression.intercept_[0]) / float(normal_D.norm()))
        normals_ND = torch.stack(normals)
        shift_N = normals_ND @ torch.from_numpy(scaler.mean_)
        return cls(normals_ND, torch.tensor(offsets, dtype=torch.double) - shift_N)

    def __call__(self, features: FeatureSet) -> Tensor:
        inside_nN = features.features_nD.double() @ self.normals_ND.T + self.offsets_N
        return -inside_nN.amax(dim=1)
