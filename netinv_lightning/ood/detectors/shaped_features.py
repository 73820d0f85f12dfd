"""Settings of detectors of pytorch-ood that change features or weights, then score the energy.

All are applied to the penultimate features, as in their papers. The library takes feature maps for
some of them; features are maps of one position.

Shape suffixes: n images, B batch, D features, N classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pytorch_ood import detector as pytorch_ood  # type: ignore[import-untyped]
from torch import Tensor, nn

from netinv_lightning.ood.detectors.fit_data import FitData
from netinv_lightning.ood.detectors.last_layer import (
    LastLayerScorer,
    TunedLastLayerScorer,
    last_layer,
)


class ShapedFeatures(TunedLastLayerScorer):
    """Base class: the energy of the logits of changed features.

    Images without positive features have no scale; they get the largest score.
    """

    library: ClassVar[Any]

    @classmethod
    def make(cls, fit_data: FitData, **setting: float) -> Any:
        head = nn.Sequential(nn.Flatten(), last_layer(fit_data, cls.name))
        return cls.library(None, head, **setting)

    @classmethod
    def fit_features(cls, detector: Any, fit_data: FitData) -> None:
        maps_nD11 = fit_data.training.features_nD[:, :, None, None]
        if detector.requires_fit:
            detector.fit_feature_maps(maps_nD11, fit_data.labels_n)

    @classmethod
    def score_features(cls, detector: Any, features_BD: Tensor) -> Tensor:
        score_B: Tensor = detector.predict_feature_maps(features_BD[:, :, None, None])
        largest = torch.finfo(score_B.dtype).max
        return score_B.nan_to_num(nan=largest, posinf=largest, neginf=-largest)


class ReAct(ShapedFeatures):
    """Energy after the features are clipped from above at a percentile of the training features.

    Sun, Guo and Li 2021 (arXiv 2111.12797), ReAct of pytorch-ood. The percentile is tuned.
    """

    name = "react"
    library = pytorch_ood.ReAct
    published: ClassVar[Mapping[str, float]] = {"percentile": 0.9}
    grid: ClassVar[Mapping[str, list[float]]] = pytorch_ood.ReAct.hyperparameter_space


class ASH(ShapedFeatures):
    """Energy after the smallest features of each image are removed and the others are enlarged.

    Djurisic et al. 2023 (arXiv 2209.09858), variant ASH-S, ASH of pytorch-ood. The share of removed
    features is tuned.
    """

    name = "ash"
    library = pytorch_ood.ASH
    published: ClassVar[Mapping[str, float]] = {"percentile": 0.65}
    grid: ClassVar[Mapping[str, list[float]]] = pytorch_ood.ASH.hyperparameter_space


class SCALE(ShapedFeatures):
    """Energy after the features are scaled by the weight of the largest ones in their sum.

    Xu et al. 2024 (arXiv 2310.00227), SCALE of pytorch-ood. The share of the largest features is
    tuned.
    """

    name = "scale"
    library = pytorch_ood.SCALE
    published: ClassVar[Mapping[str, float]] = {"percentile": 0.65}
    grid: ClassVar[Mapping[str, list[float]]] = pytorch_ood.SCALE.hyperparameter_space


class VRA(ShapedFeatures):
    """Energy after each feature is clipped between two percentiles of its training values.

    Xu et al. 2023 (arXiv 2302.11716), VRA of pytorch-ood. Both percentiles are tuned.
    """

    name = "vra"
    library = pytorch_ood.VRA
    published: ClassVar[Mapping[str, float]] = {"lower_percentile": 0.01, "upper_percentile": 0.99}
    grid: ClassVar[Mapping[str, list[float]]] = pytorch_ood.VRA.hyperparameter_space


class LTS(LastLayerScorer):
    """Energy of the logits, scaled by the weight of the largest 5 % of the features in their sum.

    Djurisic et al. 2025 (arXiv 2409.01175), LTS of pytorch-ood.
    """

    name = "lts"

    @classmethod
    def make(cls, fit_data: FitData, **setting: float) -> Any:
        return pytorch_ood.LTS(None, last_layer(fit_data, cls.name))


class DICE(TunedLastLayerScorer):
    """Energy after the last weights that contribute least to the logits are removed.

    Sun and Li 2022 (arXiv 2111.09805), DICE of pytorch-ood. The share of removed weights is tuned;
    0.9 is the published value for CIFAR-10.
    """

    name = "dice"
    published: ClassVar[Mapping[str, float]] = {"p": 0.9}
    grid: ClassVar[Mapping[str, list[float]]] = pytorch_ood.DICE.hyperparameter_space

    @classmethod
    def make(cls, fit_data: FitData, **setting: float) -> Any:
        linear = last_layer(fit_data, cls.name)
        return pytorch_ood.DICE(None, linear.weight, linear.bias, **setting)
