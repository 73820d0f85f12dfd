"""Metrics of out-of-distribution (OOD) detection.

In all functions a higher score means "more out-of-distribution". The literature has two definitions
of the false positive rate "at 95 %", which give different numbers. Both are computed, and named
after the side of which 95 % is fixed.

Shape suffixes: n in-distribution samples, m OOD samples, S resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torch import Tensor

from netinv_lightning.errors import InputError

RESAMPLES = 1000
INTERVAL = 0.95


@dataclass(frozen=True)
class Detection:
    """Separation of OOD from in-distribution samples by a score; all but `threshold` in [0, 1]."""

    auroc: float
    """Probability that a random OOD sample has a higher score than a random in-distribution one;
    ties count one half. 0.5 is chance.
    """
    auroc_low: float
    auroc_high: float
    """Ends of the 95 % bootstrap interval."""
    aupr_out: float
    """Average precision with OOD as the positive class; chance is the share of OOD samples, m / (n
    + m).
    """
    aupr_in: float
    """Average precision with in-distribution as the positive class; chance is n / (n + m)."""
    fpr95_in: float
    """FPR95 with in-distribution as positive: share of OOD samples accepted when 95 % of
    in-distribution samples are (ODIN, energy and most papers).
    """
    fpr95_out: float
    """FPR95 with OOD as positive: share of in-distribution samples rejected when 95 % of OOD
    samples are (OpenOOD v1.5, pytorch-ood).
    """
    detection_error: float
    """Smallest mean of the shares of accepted OOD and rejected in-distribution samples, over all
    thresholds. Chance, and the largest value, is 0.5.
    """
    threshold: float
    """Lowest threshold that accepts 95 % of in-distribution samples; higher scores are rejected. It
    is chosen on these same samples.
    """


@dataclass(frozen=True)
class ConfidenceGap:
    """Gap between the confidences of in-distribution and of misclassified OOD samples.

    A share of the most extreme samples of both kinds may be left out; see `ThresholdClaim`.
    """

    least_in: float
    """Lowest confidence of an in-distribution sample, or a quantile if outliers are left out."""
    most_out: float
    """Highest confidence of a misclassified OOD sample, or a quantile if outliers are left out; NaN
    if no OOD sample is misclassified.
    """
    violations_out: float
    """Share of all OOD samples that are misclassified and at least as confident as `least_in`."""
    violations_in: float
    """Share of in-distribution samples that are at most as confident as `most_out`."""

    @property
    def gap(self) -> float:
        """Width of the range of thresholds that separate both kinds; NaN if no OOD sample is
        misclassified.
        """
        return self.least_in - self.most_out

    @property
    def holds(self) -> bool:
        """Whether `least_in` is above `most_out`; true if no OOD sample is misclassified."""
        return not self.gap <= 0


@dataclass(frozen=True)
class ThresholdClaim:
    """Test of the claim that a threshold separates all samples, or all but the most extreme 1 % or
    5 %.

    The claim for all samples is less likely to hold with more samples. The other two claims do not
    depend on the number of samples.
    """

    misclassified: float
    """Share of OOD samples that are classified as an in-distribution class."""
    all_samples: ConfidenceGap
    but_1_percent: ConfidenceGap
    but_5_percent: ConfidenceGap


def detection(score_in_n: Tensor, score_out_m: Tensor, seed: int) -> Detection:
    """Measure how well scores separate OOD from in-distribution samples.

    An increasing function of the scores changes only the threshold. Confidences that float32 rounds
    to 1 are ties, so scores from logits are better.

    Args:
        score_in_n: Scores of in-distribution samples, which should be low.
        score_out_m: Scores of OOD samples, which should be high; m may differ from n.
        seed: Seed of the bootstrap.

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
    """Return the ends of the 95 % percentile bootstrap interval of the AUROC over 1,000 resamples.

    It covers the variation of the samples and not of training. If the scores do not overlap, it is
    [1, 1], which is too narrow.

    Args:
        score_in_n: Scores that should be low.
        score_out_m: Scores that should be high.
        seed: Seed of the resamples.
    """
    score = torch.cat([score_out_m, score_in_n]).double().numpy()
    ends = np.quantile(
        _resampled_aurocs(score, len(score_out_m), seed), [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2]
    )
    return float(ends[0]), float(ends[1])


def threshold_claim(
    confidence_in_n: Tensor, confidence_out_m: Tensor, misclassified_m: Tensor | None = None
) -> ThresholdClaim:
    """Test whether a threshold on the confidence separates in-distribution from OOD samples.

    Suhail, Tang and Sethi (2024, arXiv 2411.17777, section 5.2): "the least confidently classified
    in-distribution sample is still more confidently classified compared to the most confidently
    misclassified out-of-distribution sample". Equal confidences count against the claim. All
    in-distribution samples count, also those classified as garbage, because they can contradict the
    claim.

    Args:
        confidence_in_n: Largest probability of an in-distribution class (not of the garbage class),
            in [0, 1].
        confidence_out_m: The same for OOD samples.
        misclassified_m: Whether each OOD sample is classified as an in-distribution class; None if
            all are, as without a garbage class.

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


def garbage_rate(predicted_n: Tensor, num_classes: int) -> float:
    """Return the share of samples that a classifier assigns to its garbage class.

    It should be high for OOD samples.

    Args:
        predicted_n: Predicted classes in [0, N]; N is the garbage class.
        num_classes: N, without the garbage class.

    Raises:
        InputError: if there are no samples.
    """
    if not len(predicted_n):
        raise InputError(
            "predicted classes: there are none. A garbage rate needs at least 1 sample"
        )
    return float((predicted_n == num_classes).double().mean())


def _checked(value_n: Tensor, what: str) -> np.ndarray:
    """Return the values in double precision."""
    if not len(value_n):
        raise InputError(f"{what}: there are none. Detection needs at least 1 sample of each kind")
    if broken := int((~value_n.isfinite()).sum()):
        raise InputError(
            f"{what}: {broken} of {len(value_n)} are NaN or infinite. All must be finite. "
            "Check for an overflow in their computation"
        )
    values: np.ndarray = value_n.double().numpy()
    return values


def _accepting_95(score_n: np.ndarray) -> float:
    """Return the lowest score that at least 95 % of the scores do not exceed.

    It uses integer arithmetic, because 0.95 n may be rounded up.
    """
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
    """Return AUROCs [S] of bootstrap resamples of the first `out` scores and of the others."""
    source = np.random.default_rng(seed)
    values, value_n = np.unique(score, return_inverse=True)
    aurocs = np.empty(RESAMPLES)
    for s in range(RESAMPLES):
        drawn = [
            part[source.integers(len(part), size=len(part))]
            for part in (value_n[:out], value_n[out:])
        ]
        # Number of in-distribution scores below each value; an equal one counts one half.
        below = np.bincount(drawn[1], minlength=len(values))
        wins = below.cumsum() - below / 2
        aurocs[s] = wins[drawn[0]].mean() / len(drawn[1])
    return aurocs
