"""ViM: virtual-logit matching.

Shape suffixes: n images, N classes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pytorch_ood import detector as pytorch_ood  # type: ignore[import-untyped]
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.ood.detectors.fit_data import FitData
from netinv_lightning.ood.detectors.last_layer import last_layer
from netinv_lightning.ood.detectors.scorer import FittedScorer


@dataclass(frozen=True)
class ViM(FittedScorer):
    """Residual of the features outside of the principal space, minus the energy.

    Wang et al. 2022 (arXiv 2203.10807): the scaled residual acts as one more, virtual, logit. As in
    the paper, the principal space has 1000 dimensions from 2048 features on and 512 from 768 on;
    below, it has half of the dimensions.
    """

    vim: pytorch_ood.ViM
    needs_features: ClassVar[bool] = True

    @classmethod
    def fit(cls, fit_data: FitData) -> ViM:
        features_nD = fit_data.training.features_nD
        linear, D = last_layer(fit_data, "vim"), features_nD.shape[1]
        dims = 1000 if D >= 2048 else 512 if D >= 768 else D // 2
        vim = pytorch_ood.ViM(None, d=dims, w=linear.weight, b=linear.bias)
        return cls(vim.fit_features(features_nD, fit_data.labels_n))

    def __call__(self, features: FeatureSet) -> Tensor:
        score_n: Tensor = self.vim.predict_features(features.features_nD)
        return score_n.double()
