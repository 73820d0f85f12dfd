"""Calibration of a classifier: agreement of its probabilities with its accuracy.

Shape suffixes: n samples, N classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.errors import InputError

BINS = 15
ROUNDING = 1e-2
"""Largest distance of a sum of probabilities from 1. Rounding in half precision stays below it."""


@dataclass(frozen=True)
class Calibration:
    """Agreement of predicted probabilities with accuracy."""

    ece: float
    """Expected calibration error in 15 bins, in [0, 1]."""
    brier: float
    """Mean squared distance of the probabilities to the one-hot label, summed over classes: in [0,
    2], 1 - 1/N for uniform probabilities.
    """


def calibration(probability_nN: Tensor, label_n: Tensor) -> Calibration:
    """Compute calibration error and Brier score of predicted probabilities.

    The expected calibration error (Guo et al. 2017, arXiv 1706.04599) is the mean distance of
    accuracy and confidence, the largest probability, over 15 confidence bins of equal width. A bin
    includes its upper end and is weighted by its number of samples. The Brier score is from Brier
    1950.

    Args:
        probability_nN: Probabilities; each row sums to 1.
        label_n: True classes.

    Raises:
        InputError: if there are none, or they are not probabilities.
    """
    probability_nN = probability_nN.double()
    if not len(probability_nN):
        raise InputError("probabilities: are empty. Calibration needs at least 1 sample")
    if (
        not (probability_nN >= 0).all()
        or not ((probability_nN.sum(dim=1) - 1).abs() < ROUNDING).all()
    ):
        raise InputError(
            "probabilities: must be 0 or more and sum to 1 in every row. "
            "Pass the softmax of the logits"
        )
    confidence_n, predicted_n = probability_nN.max(dim=1)
    # torchmetrics puts a confidence of exactly 1, common in float32, into a 16th bin.
    bin_n = (confidence_n * BINS).ceil().long().clamp(max=BINS)
    excess = torch.zeros(BINS + 1, dtype=torch.double)
    excess.index_add_(0, bin_n, (predicted_n == label_n).double() - confidence_n)
    one_hot_nN = F.one_hot(label_n, probability_nN.shape[1])
    return Calibration(
        ece=float(excess.abs().sum() / len(label_n)),
        brier=float((probability_nN - one_hot_nN).square().sum(dim=1).mean()),
    )
