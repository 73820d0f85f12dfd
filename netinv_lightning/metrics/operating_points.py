"""One point of an ROC curve: the true positive rate at a low false positive rate.

Carlini et al. 2022 (arXiv 2112.03570) report membership inference in this way, because an attack
that identifies a few members with certainty is worse than one that is right slightly more often
than chance on all of them.

Shape suffixes: n positives or values, m negatives or other values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor

CONFIDENCE = 0.95


@dataclass(frozen=True)
class OperatingPoint:
    """The largest true positive rate at which the false positive rate is at most `level`.

    Attributes:
        level: The allowed false positive rate, in (0, 1).
        true_positive_rate: Share of the positives above the threshold.
        interval: Its exact 95 % interval. The threshold counts as given.
        false_positives: Number of the negatives above the threshold.
        highest_false_positive_rate: Upper end of the exact 95 % interval of the false positive
            rate. With few negatives it is far above `level`.
    """

    level: float
    true_positive_rate: float
    interval: tuple[float, float]
    false_positives: int
    highest_false_positive_rate: float


def operating_point(positive_n: Tensor, negative_m: Tensor, level: float) -> OperatingPoint:
    """Return the operating point of a score that is higher for positives.

    A value equal to the threshold counts as negative.

    Args:
        positive_n: Scores of the positives.
        negative_m: Scores of the negatives.
        level: The allowed false positive rate, in (0, 1).
    """
    positive, negative = positive_n.double().numpy(), negative_m.double().numpy()
    # Of the values in descending order, this many may be above the threshold, which is the next.
    allowed = int(np.floor(level * len(negative) + 1e-9))
    threshold = np.sort(negative)[::-1][allowed]
    hits, false = int((positive > threshold).sum()), int((negative > threshold).sum())
    return OperatingPoint(
        level=level,
        true_positive_rate=hits / len(positive),
        interval=exact_interval(hits, len(positive)),
        false_positives=false,
        highest_false_positive_rate=exact_interval(false, len(negative))[1],
    )


def share_at_least(value_n: Tensor, other_m: Tensor) -> Tensor:
    """Return the share of the other values that are at least as large as each value, [n]."""
    ordered = other_m.double().sort().values
    below_n = torch.searchsorted(ordered, value_n.double().contiguous())
    return 1 - below_n.double() / len(ordered)


def exact_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a share (Clopper and Pearson 1934)."""
    interval = binomtest(successes, trials).proportion_ci(CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)
