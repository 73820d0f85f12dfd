"""Detectors of pytorch-ood that read the penultimate features and the last fully connected layer.

Each class here is a setting of one detector of the library; nothing is computed anew. The features
come from the one extraction that all detectors share.

Shape suffixes: n images, B batch, D features, N classes.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.features import BATCH, FeatureSet
from netinv_lightning.classifiers.penultimate import last_linear
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.ood.detectors.fit_data import FitData
from netinv_lightning.ood.detectors.scorer import FittedScorer, TunedScorer, tuning_auroc


def last_layer(fit_data: FitData, name: str) -> nn.Linear:
    """Return a copy of the last fully connected layer, in single precision on the CPU.

    Args:
        fit_data: The fit data; their logits must be the output of this layer.
        name: Name of the detector, for the message.

    Raises:
        InputError: if the network has no such layer, or another layer follows it.
    """
    linear = last_linear(fit_data.classifier.network)
    if linear is None:
        raise InputError(
            f"application.detectors={name}: the network has no fully connected layer; remove {name}"
        )
    features_nD, logits_nN = fit_data.training.features_nD, fit_data.training.logits_nN
    copied = copy.deepcopy(linear).float().cpu().requires_grad_(False)
    if copied.bias is None:
        copied.bias = nn.Parameter(torch.zeros(copied.out_features), requires_grad=False)
    if (logits_nN.shape[1], features_nD.shape[1]) != tuple(copied.weight.shape) or not (
        torch.allclose(copied(features_nD), logits_nN, rtol=1e-3, atol=1e-3)
    ):
        raise InputError(
            f"application.detectors={name}: the logits are not the output of the last fully "
            f"connected layer of the network (another layer follows it); remove {name}"
        )
    return copied


@dataclass(frozen=True)
class LastLayerScorer(FittedScorer):
    """A detector of pytorch-ood that reads features and, if it needs it, the last layer.

    Attributes:
        detector: The fitted detector of the library.
    """

    detector: Any
    name: ClassVar[str]
    needs_features: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def make(cls, fit_data: FitData, **setting: float) -> Any:
        """Return the detector of the library, not yet fitted."""

    @classmethod
    def fit_features(cls, detector: Any, fit_data: FitData) -> None:
        detector.fit_features(fit_data.training.features_nD, fit_data.labels_n)

    @classmethod
    def score_features(cls, detector: Any, features_BD: Tensor) -> Tensor:
        score_B: Tensor = detector.predict_features(features_BD)
        return score_B

    @classmethod
    def fitted(cls, fit_data: FitData, **setting: float) -> Any:
        """Return the fitted detector of the library.

        Raises:
            InputError: if the library cannot be fitted to this classifier.
        """
        detector = cls.make(fit_data, **setting)
        try:
            cls.fit_features(detector, fit_data)
        except ValueError as error:
            raise InputError(
                f"application.detectors={cls.name}: {one_line(error)}; use more images "
                f"(application.samples), or remove {cls.name}"
            ) from error
        return detector

    @classmethod
    def scores(cls, detector: Any, features_nD: Tensor) -> Tensor:
        """Return the scores [n], computed in batches."""
        parts = [cls.score_features(detector, part_BD) for part_BD in features_nD.split(BATCH)]
        return torch.cat(parts).double()

    @classmethod
    def fit(cls, fit_data: FitData) -> Self:
        return cls(cls.fitted(fit_data))

    def __call__(self, features: FeatureSet) -> Tensor:
        return self.scores(self.detector, features.features_nD)


@dataclass(frozen=True)
class TunedLastLayerScorer(LastLayerScorer, TunedScorer):
    """A detector of pytorch-ood with a setting that is tuned on validation images against noise.

    The grid is `hyperparameter_space` of the library, which is the grid of OpenOOD (Zhang et al.
    2023, arXiv 2306.09301). The published setting is tried first; of equal settings the first wins.

    Attributes:
        chosen: The chosen setting.
        auroc: Its AUROC, validation images against tuning outliers.
    """

    chosen: Mapping[str, float]
    auroc: float
    published: ClassVar[Mapping[str, float]]
    grid: ClassVar[Mapping[str, list[float]]]

    @classmethod
    def fit(cls, fit_data: FitData) -> Self:
        settings = [
            dict(zip(cls.grid, values, strict=True)) for values in product(*cls.grid.values())
        ]
        candidates = (cls._candidate(fit_data, setting) for setting in [cls.published, *settings])
        return max(candidates, key=lambda candidate: candidate.auroc)

    @classmethod
    def _candidate(cls, fit_data: FitData, setting: Mapping[str, float]) -> Self:
        detector = cls.fitted(fit_data, **setting)
        inside_n, outside_n = (
            cls.scores(detector, features.features_nD)
            for features in (fit_data.validation, fit_data.outliers)
        )
        return cls(detector, setting, tuning_auroc(inside_n, outside_n))

    @property
    def setting(self) -> str:
        values = ", ".join(f"{key} {value:g}" for key, value in self.chosen.items())
        return f"{values}, AUROC {self.auroc:.3f}"
