"""The scores of a classifier with a garbage class (S2 section 5.2; A4-6).

Shape suffixes: n images, N known classes, M = N + 1 classes, garbage the last, Q two questions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from netinv_lightning.classifiers.features import Seen, look
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.ood.detectors import scores

ODDS, ODDS_AND_ENERGY = SCORES = "odds", "odds_and_energy"
"""What a classifier with a garbage class can be asked; see `GarbageOdds` and `GarbageOddsAndEnergy`."""


@dataclass(frozen=True)
class GarbageOdds:
    """Log odds of the garbage class, log(p / (1 - p)): of logits, so no probability is rounded to 0 or 1."""

    def __call__(self, seen: Seen) -> Tensor:
        logits_nM = seen.logits_nN.double()
        return logits_nM[:, -1] - logits_nM[:, :-1].logsumexp(dim=1)


@dataclass(frozen=True)
class GarbageOddsAndEnergy:
    """Both questions to the same classifier: does garbage claim the image, and does no known class (the energy of the known logits)?

    What is like the garbage shown raises the odds; what is like nothing ever shown may leave all logits low, garbage's too, and only the
    energy tells. The score is the sum of both, each in standard deviations from its mean over validation images.

    Attributes:
        mean_Q: Of log odds and energy over validation images.
        std_Q: Their standard deviations.
    """

    mean_Q: Tensor
    std_Q: Tensor

    @classmethod
    def fit(cls, classifier: FrozenClassifier, validation_nCHW: Tensor) -> GarbageOddsAndEnergy:
        """Takes the units from images in [0, 1] of the classifier's own data."""
        asked_nQ = _both(look(classifier, validation_nCHW))
        return cls(asked_nQ.mean(dim=0), asked_nQ.std(dim=0).clamp_min(1e-12))

    def __call__(self, seen: Seen) -> Tensor:
        return ((_both(seen) - self.mean_Q) / self.std_Q).sum(dim=1)


def _both(seen: Seen) -> Tensor:
    return torch.stack([GarbageOdds()(seen), scores.energy(seen.logits_nN[:, :-1])], dim=1)
