"""Settings of detectors of pytorch-ood that compare features with those of the training images.

Shape suffixes: n images, B batch, D features, N classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from pytorch_ood import detector as pytorch_ood  # type: ignore[import-untyped]
from torch import Tensor, nn

from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.ood.detectors.fit_data import FitData
from netinv_lightning.ood.detectors.last_layer import (
    LastLayerScorer,
    TunedLastLayerScorer,
    last_layer,
)
from netinv_lightning.ood.detectors.mahalanobis import Mahalanobis
from netinv_lightning.ood.detectors.scorer import FittedScorer

NEIGHBOURS = 10
"""Neighbours of NNGuide, as in Park et al. 2023."""


@dataclass(frozen=True)
class RMD(FittedScorer):
    """Mahalanobis distance to the nearest class minus that to all training images.

    Ren et al. 2021 (arXiv 2106.09022), RMD of pytorch-ood. The library inverts covariances in
    single precision, which fails for dependent features. Here it gets whitened features without the
    directions that do not vary; the score does not depend on the basis.

    Attributes:
        whitening_DD: See `Mahalanobis`.
        rmd: The fitted detector of the library.
    """

    whitening_DD: Tensor
    rmd: pytorch_ood.RMD
    needs_features: ClassVar[bool] = True

    @classmethod
    def fit(cls, fit_data: FitData) -> Self:
        whitening_DD = Mahalanobis.fit(fit_data).whitening_DD
        white_nD = (fit_data.training.features_nD.double() @ whitening_DD).float()
        return cls(whitening_DD, pytorch_ood.RMD(None).fit_features(white_nD, fit_data.labels_n))

    def __call__(self, features: FeatureSet) -> Tensor:
        white_nD = (features.features_nD.double() @ self.whitening_DD).float()
        score_n: Tensor = self.rmd.predict_features(white_nD)
        return score_n.double()


class FDBD(LastLayerScorer):
    """Minus the distance of the features to the decision boundaries, relative to their mean.

    Liu and Qin 2024 (arXiv 2312.11536), fDBD of pytorch-ood.
    """

    name = "fdbd"

    @classmethod
    def make(cls, fit_data: FitData, **setting: float) -> Any:
        return pytorch_ood.fDBD(None, last_layer(fit_data, cls.name))


class SHE(LastLayerScorer):
    """Minus the inner product of the features and the mean features of the predicted class.

    Zhang et al. 2023 (ICLR, "Out-of-Distribution Detection based on In-Distribution Data Patterns
    Memorization with Modern Hopfield Energy"), SHE of pytorch-ood.
    """

    name = "she"

    @classmethod
    def make(cls, fit_data: FitData, **setting: float) -> Any:
        return pytorch_ood.SHE(None, last_layer(fit_data, cls.name))


class NNGuide(LastLayerScorer):
    """Minus the energy of the logits, guided by the similarity to 10 training images.

    Park et al. 2023 (arXiv 2309.14888), NNGuide of pytorch-ood.
    """

    name = "nnguide"

    @classmethod
    def make(cls, fit_data: FitData, **setting: float) -> Any:
        return pytorch_ood.NNGuide(None, last_layer(fit_data, cls.name), k=NEIGHBOURS)


class NCI(TunedLastLayerScorer):
    """Minus the alignment of the centred features with the weights of the predicted class.

    Liu and Qin 2025 (arXiv 2311.01479), NCI of pytorch-ood. The weight of the norm of the features
    is tuned.
    """

    name = "nci"
    published: ClassVar[Mapping[str, float]] = {"alpha": 0.0}
    grid: ClassVar[Mapping[str, list[float]]] = pytorch_ood.NCI.hyperparameter_space

    @classmethod
    def make(cls, fit_data: FitData, **setting: float) -> Any:
        return pytorch_ood.NCI(None, last_layer(fit_data, cls.name), **setting)


class PNML(LastLayerScorer):
    """Regret of predictive normalised maximum likelihood, for features of unit length.

    Bibas, Feder and Hassner 2021 (arXiv 2110.09246), PNML of pytorch-ood.
    """

    name = "pnml"

    @classmethod
    def make(cls, fit_data: FitData, **setting: float) -> Any:
        return pytorch_ood.PNML(None, last_layer(fit_data, cls.name))


class GradNorm(LastLayerScorer):
    """Minus the L1 norm of the gradient of the last weights.

    Huang et al. 2021 (arXiv 2110.00218), GradNorm of pytorch-ood; the loss is the cross-entropy to
    equal probabilities. As in the paper only the weights
    of the last layer count, so that the features are enough and the network does not run again.
    """

    name = "gradnorm"

    @classmethod
    def make(cls, fit_data: FitData, **setting: float) -> Any:
        return pytorch_ood.GradNorm(last_layer(fit_data, cls.name), _is_weight)

    @classmethod
    def fit_features(cls, detector: Any, fit_data: FitData) -> None:
        """Fit nothing."""

    @classmethod
    def score_features(cls, detector: Any, features_BD: Tensor) -> Tensor:
        score_B: Tensor = detector.predict(features_BD)
        return score_B


class NAC(TunedLastLayerScorer):
    """Minus the share of units with values that are frequent in training (neuron coverage).

    Liu et al. 2024 (arXiv 2306.02879), NACUE of pytorch-ood; the value of a unit is its activation
    times its gradient. The steepness of the sigmoid and the number of images that cover a bin are
    tuned, as in the paper. Only the penultimate layer is covered, so that the features are enough;
    the paper's best results use four layers.
    """

    name = "nac"
    published: ClassVar[Mapping[str, float]] = {"alpha": 100.0, "o_star": 50.0}
    grid: ClassVar[Mapping[str, list[float]]] = {
        "alpha": [1.0, 10.0, 100.0, 1000.0],
        "o_star": [1.0, 5.0, 50.0, 500.0],
    }

    @classmethod
    def make(cls, fit_data: FitData, **setting: float) -> Any:
        units = nn.Identity()
        network = nn.Sequential(units, last_layer(fit_data, cls.name))
        return pytorch_ood.NACUE(network, [units], **setting)

    @classmethod
    def fit_features(cls, detector: Any, fit_data: FitData) -> None:
        detector.fit([fit_data.training.features_nD.detach().clone().requires_grad_()])

    @classmethod
    def score_features(cls, detector: Any, features_BD: Tensor) -> Tensor:
        with torch.enable_grad():
            score_B: Tensor = detector.predict(features_BD.detach().clone().requires_grad_())
        return score_B


def _is_weight(name: str) -> bool:
    return name == "weight"
