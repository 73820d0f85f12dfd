"""How well scores tell out-of-distribution (OOD) from in-distribution samples, and what a classifier's confidence is worth.

One convention everywhere: a higher score says "more out-of-distribution". The field has two for the false positives "at 95 %", and
they are different numbers; here both are measured, and named after the side of which 95 % is fixed.

Shape suffixes: n in-distribution samples, m out-of-distribution samples, N classes, S resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torch import Tensor

from netinv_lightning.errors import InputError

RESAMPLES = 1000
INTERVAL = 0.95
CALIBRATION_BINS = 15
ROUNDING = 1e-2  # of the sum of probabilities: above what half precision loses, far below what logits miss it by


@dataclass(frozen=True)
class Detection:
    """How well one score tells out-of-distribution from in-distribution samples; all but the threshold in [0, 1]."""

    auroc: float
    """How often a random OOD sample has the higher score than a random in-distribution one, ties counting half; 0.5 is chance."""
    auroc_low: float
    auroc_high: float
    """Ends of the 95 % bootstrap interval."""
    aupr_out: float
    """Average precision with OOD as positive; chance is the share of OOD samples, m / (n + m)."""
    aupr_in: float
    """Average precision with in-distribution as positive; chance is n / (n + m)."""
    fpr95_in: float
    """FPR95 with in-distribution as positive: share of OOD accepted where 95 % of in-distribution is (ODIN, energy and most papers)."""
    fpr95_out: float
    """FPR95 with OOD as positive: share of in-distribution rejected where 95 % of OOD is (OpenOOD v1.5, pytorch-ood)."""
    detection_error: float
    """Least mean of the share of OOD accepted and of in-distribution rejected, over all thresholds; chance and the worst are 0.5."""
    threshold: float
    """The lowest one that accepts 95 % of in-distribution; what lies above it is rejected. It is chosen on these very samples."""


@dataclass(frozen=True)
class ConfidenceGap:
    """In-distribution against misclassified OOD confidences, without the outliers of either."""

    least_in: float
    """Confidence of the least confident in-distribution sample, or the quantile that takes its place."""
    most_out: float
    """Confidence of the most confident misclassified OOD sample, or the quantile; NaN where none is misclassified."""
    violations_out: float
    """Share of all OOD samples that are misclassified and at least as confident as `least_in`."""
    violations_in: float
    """Share of in-distribution samples that are at most as confident as `most_out`."""

    @property
    def gap(self) -> float:
        """Width of the range in which a threshold is clear; NaN where no OOD sample is misclassified."""
        return self.least_in - self.most_out

    @property
    def holds(self) -> bool:
        """Whether `least_in` is above `most_out`; it is where no OOD sample is misclassified."""
        return not self.gap <= 0


@dataclass(frozen=True)
class ThresholdClaim:
    """The claim of a clear threshold: for all samples, and where the most extreme 1 % or 5 % of either side do not count.

    The more samples there are, the less likely the first is; the other two do not depend on how many there are.
    """

    misclassified: float
    """Share of OOD samples that are taken for an in-distribution class."""
    all_samples: ConfidenceGap
    but_1_percent: ConfidenceGap
    but_5_percent: ConfidenceGap


@dataclass(frozen=True)
class Calibration:
    """Whether probabilities are as often right as they say."""

    ece: float
    """Expected calibration error in 15 bins, in [0, 1]."""
    brier: float
    """Mean squared distance of the probabilities to the one-hot label, summed over classes: in [0, 2], 1 - 1/N for uniform ones."""


def detection(score_in_n: Tensor, score_out_m: Tensor, seed: int) -> Detection:
    """Measures how far the scores of OOD samples lie above those of in-distribution ones.

    Nothing but the threshold changes under an increasing map of the scores. Confidences that float32 rounds to 1 are ties, so
    scores are better made of logits.

    Args:
        score_in_n: Scores of in-distribution samples, which should be low.
        score_out_m: Scores of OOD samples, which should be high; m need not be n.
        seed: Of the bootstrap.

    Raises:
        InputError: if there are no scores of either kind, or a score is NaN or infinite.
    """
    in_n = _checked(score_in_n, "scores of in-distribution samples")
    out_m = _checked(score_out_m, "scores of out-of-distribution samples")
    score, is_out = np.concatenate([in_n, out_m]), np.arange(len(in_n) + len(out_m)) >= len(in_n)
    false_alarm, detected, _ = roc_curve(is_out, score)
    low, high = auroc_interval(score_in_n, score_out_m, seed)
    threshold, threshold_out = _accepting_95(in_n), -_accepting_95(-out_m)
    return Detection(
        auroc=float(roc_auc_score(is_out, score)),
        auroc_low=low,
        auroc_high=high,
        aupr_out=float(average_precision_score(is_out, score)),
        aupr_in=float(average_precision_score(~is_out, -score)),
        fpr95_in=float((out_m <= threshold).mean()),
        fpr95_out=float((in_n >= threshold_out).mean()),
        detection_error=float((1 - detected + false_alarm).min() / 2),
        threshold=threshold,
    )


def auroc_interval(score_in_n: Tensor, score_out_m: Tensor, seed: int) -> tuple[float, float]:
    """Ends of the percentile bootstrap's 95 % interval for the AUROC, over 1,000 resamples of either set.

    It tells the spread of the samples and not of training. Where no scores overlap it is 1 to 1, which is narrower than the truth.

    Args:
        score_in_n: Scores that should be low.
        score_out_m: Scores that should be high.
        seed: Of the resamples.
    """
    score = torch.cat([score_out_m, score_in_n]).double().numpy()
    ends = np.quantile(
        _resampled_aurocs(score, len(score_out_m), seed), [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2]
    )
    return float(ends[0]), float(ends[1])


def threshold_claim(
    confidence_in_n: Tensor, confidence_out_m: Tensor, misclassified_m: Tensor | None = None
) -> ThresholdClaim:
    """Tests whether a threshold on the confidence is clear (A4-8).

    S2 section 5.2: "the least confidently classified in-distribution sample is still more confidently classified compared to the most
    confidently misclassified out-of-distribution sample". Equal confidences speak against it. All in-distribution samples count, also
    those that the classifier puts into its garbage class: they are what the claim could fail by.

    Args:
        confidence_in_n: Largest probability of an in-distribution class (not the garbage class), in [0, 1].
        confidence_out_m: The same of OOD samples.
        misclassified_m: Which OOD samples are taken for an in-distribution class; None: all, as by a classifier without a garbage class.

    Raises:
        InputError: if there are no confidences of either kind, or one is NaN or infinite.
    """
    in_n = _checked(confidence_in_n, "confidences of in-distribution samples")
    out_m = _checked(confidence_out_m, "confidences of out-of-distribution samples")
    wrong_m = (
        np.ones(len(out_m), dtype=bool)
        if misclassified_m is None
        else misclassified_m.bool().numpy()
    )
    return ThresholdClaim(
        misclassified=float(wrong_m.mean()),
        all_samples=_confidence_gap(in_n, out_m, wrong_m, 0.0),
        but_1_percent=_confidence_gap(in_n, out_m, wrong_m, 0.01),
        but_5_percent=_confidence_gap(in_n, out_m, wrong_m, 0.05),
    )


def calibration(probability_nN: Tensor, label_n: Tensor) -> Calibration:
    """Compares the probabilities of a classifier with how often it is right.

    The expected calibration error (Guo et al. 2017) is the mean distance of accuracy and confidence in 15 bins of equal width by
    confidence, the largest probability; a bin holds its upper end, and weighs as many samples as it has. Brier 1950 for the other.

    Args:
        probability_nN: Probabilities, each row's sum 1.
        label_n: True classes.

    Raises:
        InputError: if there are none, or they are not probabilities.
    """
    probability_nN = probability_nN.double()
    if not len(probability_nN):
        raise InputError("probabilities: there are none; calibration needs at least 1 sample")
    if (
        not (probability_nN >= 0).all()
        or not ((probability_nN.sum(dim=1) - 1).abs() < ROUNDING).all()
    ):
        raise InputError(
            "probabilities: must be 0 or more and sum to 1 in every row; give the softmax of the logits"
        )
    confidence_n, predicted_n = probability_nN.max(dim=1)
    # Not torchmetrics' calibration error: there a confidence of exactly 1, common in float32, has a bin of its own, the 16th.
    bin_n = (confidence_n * CALIBRATION_BINS).ceil().long().clamp(max=CALIBRATION_BINS)
    excess = torch.zeros(CALIBRATION_BINS + 1, dtype=torch.double)
    excess.index_add_(0, bin_n, (predicted_n == label_n).double() - confidence_n)
    one_hot_nN = F.one_hot(label_n, probability_nN.shape[1])
    return Calibration(
        ece=float(excess.abs().sum() / len(label_n)),
        brier=float((probability_nN - one_hot_nN).square().sum(dim=1).mean()),
    )


def garbage_rate(predicted_n: Tensor, num_classes: int) -> float:
    """Share of samples that a classifier with a garbage class puts there (A4-7): good where it is high of OOD samples.

    Args:
        predicted_n: Predicted classes in [0, N]; N is garbage.
        num_classes: N, the garbage class not counted.

    Raises:
        InputError: if there are none.
    """
    if not len(predicted_n):
        raise InputError(
            "predicted classes: there are none; a garbage rate needs at least 1 sample"
        )
    return float((predicted_n == num_classes).double().mean())


def _checked(value_n: Tensor, what: str) -> np.ndarray:
    """The values in double precision."""
    if not len(value_n):
        raise InputError(
            f"{what}: there are none; detection needs at least 1 sample of either kind"
        )
    if broken := int((~value_n.isfinite()).sum()):
        raise InputError(
            f"{what}: {broken} of {len(value_n)} are NaN or infinite; all must be finite, look for overflow in what made them"
        )
    values: np.ndarray = value_n.double().numpy()
    return values


def _accepting_95(score_n: np.ndarray) -> float:
    """The lowest score that 95 % are not above; in whole numbers, for 0.95 n may be rounded up."""
    accepted = -(-95 * len(score_n) // 100)
    return float(np.partition(score_n, accepted - 1)[accepted - 1])


def _confidence_gap(
    in_n: np.ndarray, out_m: np.ndarray, wrong_m: np.ndarray, outliers: float
) -> ConfidenceGap:
    least_in = float(np.quantile(in_n, outliers))
    most_out = float(np.quantile(out_m[wrong_m], 1 - outliers)) if wrong_m.any() else float("nan")
    return ConfidenceGap(
        least_in=least_in,
        most_out=most_out,
        violations_out=float((wrong_m & (out_m >= least_in)).mean()),
        violations_in=float((in_n <= most_out).mean()),
    )


def _resampled_aurocs(score: np.ndarray, out: int, seed: int) -> np.ndarray:
    """AUROCs [S] of resamples of the first `out` scores and of the others, each drawn with replacement, as many as there are."""
    source = np.random.default_rng(seed)
    values, value_n = np.unique(score, return_inverse=True)
    aurocs = np.empty(RESAMPLES)
    for s in range(RESAMPLES):
        drawn = [
            part[source.integers(len(part), size=len(part))]
            for part in (value_n[:out], value_n[out:])
        ]
        # Of how many in-distribution scores each value is above; an equal one counts half.
        below = np.bincount(drawn[1], minlength=len(values))
        wins = below.cumsum() - below / 2
        aurocs[s] = wins[drawn[0]].mean() / len(drawn[1])
    return aurocs
