"""Base classes of the detectors.

Shape suffixes: n images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.ood.detectors.fit_data import FitData


class Scorer(ABC):
    """Computes a score per image from outputs of the classifier, higher for OOD images."""

    @abstractmethod
    def __call__(self, features: FeatureSet) -> Tensor:
        """Return the scores [n], in double precision."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers whose outputs the score needs."""
        return ()


class FittedScorer(Scorer):
    """A score that is fitted to a classifier and its training images."""

    needs_features: ClassVar[bool] = False
    """Whether it needs penultimate features, which not every network has."""

    @classmethod
    @abstractmethod
    def fit(cls, fit_data: FitData) -> Self:
        """Return the fitted score."""


class TunedScorer(FittedScorer):
    """A score with a setting that is tuned on validation images against tuning outliers.

    Attributes:
        auroc: AUROC of the chosen setting on the tuning images. If it is near or below 0.5, the
            tuning failed; use other tuning outliers.
    """

    auroc: float

    @property
    @abstractmethod
    def setting(self) -> str:
        """The chosen setting and its AUROC, in words."""


def tuning_auroc(inside_n: Tensor, outside_n: Tensor) -> float:
    """Return the AUROC of two sets of scores; ties count half.

    It is rounded, so that equal settings stay equal.
    """
    value = roc_auc_score(
        [0] * len(inside_n) + [1] * len(outside_n), torch.cat([inside_n, outside_n]).numpy()
    )
    return round(float(value), 9)
