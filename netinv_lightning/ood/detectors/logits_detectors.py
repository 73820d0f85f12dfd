"""Settings of detectors of pytorch-ood that are fitted on logits.

Shape suffixes: n images, N classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from pytorch_ood import detector as pytorch_ood  # type: ignore[import-untyped]
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.errors import InputError
from netinv_lightning.ood.detectors.fit_data import FitData
from netinv_lightning.ood.detectors.scorer import FittedScorer


@dataclass(frozen=True)
class LogitsScorer(FittedScorer):
    """A detector of pytorch-ood that is fitted on the logits of the training images.

    Logits are passed in double precision, as for `logit_scores`.

    Attributes:
        detector: The fitted detector of the library.
    """

    detector: Any
    library: ClassVar[Any]

    @classmethod
    def fit(cls, fit_data: FitData) -> Self:
        logits_nN = fit_data.training.logits_nN.double()
        return cls(cls.library(None).fit_logits(logits_nN, fit_data.labels_n))

    @torch.no_grad()
    def __call__(self, features: FeatureSet) -> Tensor:
        score_n: Tensor = self.detector.predict_logits(features.logits_nN.double())
        return score_n.double()


class KLMatching(LogitsScorer):
    """KL divergence of the probabilities to the mean probabilities of the nearest class.

    Hendrycks et al. 2022 (arXiv 1911.11132), KLMatching of pytorch-ood. The mean probabilities are
    those of the training images, as in OpenOOD; the paper uses validation images.
    """

    library = pytorch_ood.KLMatching


class OpenMax(LogitsScorer):
    """Probability of an unknown class, by extreme values of the distance to the class means.

    Bendale and Boult 2016 (arXiv 1511.06233), OpenMax of pytorch-ood, with the settings of the
    library: 25 extreme values, 10 revised classes, Euclidean distance.
    """

    library = pytorch_ood.OpenMax


class TemperatureScaling(LogitsScorer):
    """One minus the maximum softmax probability, at the temperature that calibrates it.

    Guo et al. 2017 (arXiv 1706.04599), TemperatureScaling of pytorch-ood. The temperature is fitted
    on the validation images and their labels.
    """

    library = pytorch_ood.TemperatureScaling

    @classmethod
    def fit(cls, fit_data: FitData) -> Self:
        validation = fit_data.validation
        if not len(validation.labels_n):
            raise InputError(
                "application.detectors=temperature_scaling: needs labels of the validation images; "
                "pass validation_labels_n, or remove temperature_scaling"
            )
        detector = cls.library(None)
        detector.fit_logits(validation.logits_nN.double(), validation.labels_n)
        detector.t.requires_grad_(False)
        return cls(detector)

    def __call__(self, features: FeatureSet) -> Tensor:
        return 1 + super().__call__(features)
