"""Scores of a classifier with a garbage class.

Suhail, Tang and Sethi 2024 (arXiv 2411.17777, section 5.2).

Shape suffixes: n images, N in-distribution classes, M = N + 1 classes with garbage last, Q = 2
scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet, extract_features
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.ood.detectors.logit_scores import energy, uncertainty
from netinv_lightning.ood.detectors.registry import Detector
from netinv_lightning.ood.detectors.scorer import Scorer

ODDS, ODDS_AND_ENERGY, UNCERTAINTY = SCORES = "odds", "odds_and_energy", "uncertainty"
"""Values of `garbage.<name>.score`; see `GarbageOdds`, `GarbageOddsAndEnergy` and
`GarbageUncertainty`."""


@dataclass(frozen=True)
class GarbageOdds(Scorer):
    """Log odds of the garbage class, log(p / (1 - p)), computed from the logits."""

    def __call__(self, features: FeatureSet) -> Tensor:
        logits_nM = features.logits_nN.double()
        return logits_nM[:, -1] - logits_nM[:, :-1].logsumexp(dim=1)


@dataclass(frozen=True)
class GarbageOddsAndEnergy(Scorer):
    """Sum of the standardised log odds of garbage and energy of the other logits.

    Images similar to the garbage in training have high odds. Images unlike anything in training may
    have low logits for all classes, garbage included; the energy detects these.

    Attributes:
        mean_Q: Means of log odds and energy over the validation images.
        std_Q: Their standard deviations.
    """

    mean_Q: Tensor
    std_Q: Tensor

    @classmethod
    def fit(cls, classifier: FrozenClassifier, validation_nCHW: Tensor) -> GarbageOddsAndEnergy:
        """Standardise on in-distribution images in [0, 1]."""
        scores_nQ = _odds_and_energy(extract_features(classifier, validation_nCHW))
        return cls(scores_nQ.mean(dim=0), scores_nQ.std(dim=0).clamp_min(1e-12))

    def __call__(self, features: FeatureSet) -> Tensor:
        return ((_odds_and_energy(features) - self.mean_Q) / self.std_Q).sum(dim=1)


@dataclass(frozen=True)
class GarbageUncertainty(Scorer):
    """Uncertainty over all N + 1 classes, 0 to 1, and 2 minus it for images classified as garbage.

    Suhail, Afroz, Bala and Sethi 2025 (arXiv 2505.23448): an image is out-of-distribution if it is
    classified as garbage, and the uncertainty of the prediction is reported beside it. The paper
    does not merge both into one score. Here the most certain in-distribution images have the score
    0, the most uncertain images of any class 1, and the most certain garbage 2.
    """

    def __call__(self, features: FeatureSet) -> Tensor:
        logits_nM = features.logits_nN
        uncertainty_n = uncertainty(logits_nM)
        is_garbage_n = logits_nM.argmax(dim=1) == logits_nM.shape[1] - 1
        return torch.where(is_garbage_n, 2 - uncertainty_n, uncertainty_n)


def garbage_detector(
    name: str, score: str, classifier: FrozenClassifier, validation_nCHW: Tensor
) -> Detector:
    """Return the detector that scores images by a classifier with a garbage class.

    Args:
        name: Name of the detector.
        score: One of `SCORES`.
        classifier: The classifier with a garbage class.
        validation_nCHW: In-distribution images in [0, 1] that standardise the scores.
    """
    if score == ODDS:
        return Detector(name, classifier, GarbageOdds())
    if score == UNCERTAINTY:
        return Detector(name, classifier, GarbageUncertainty())
    return Detector(name, classifier, GarbageOddsAndEnergy.fit(classifier, validation_nCHW))


def _odds_and_energy(features: FeatureSet) -> Tensor:
    return torch.stack([GarbageOdds()(features), energy(features.logits_nN[:, :-1])], dim=1)
