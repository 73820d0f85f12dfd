"""Detection and calibration against hand-worked tables, closed forms, naive pairs and scikit-learn.

Shape suffixes: n in-distribution samples, m out-of-distribution samples, N classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_curve
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from netinv_lightning.errors import InputError
from netinv_lightning.metrics import detection as module
from netinv_lightning.metrics.detection import (
    Detection,
    auroc_interval,
    calibration,
    detection,
    garbage_rate,
    threshold_claim,
)

PROPERTY = settings(deadline=None, derandomize=True, max_examples=25)


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the interval is not what is tested."""
    monkeypatch.setattr(module, "RESAMPLES", 2)


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scores(n: int, m: int, seed: int, levels: int) -> tuple[Tensor, Tensor]:
    """Whole numbers, so with ties; those of OOD samples higher on average."""
    return tuple(
        torch.randint(levels, (size,), generator=source(seed + i)).double() + i
        for i, size in enumerate((n, m))
    )  # type: ignore[return-value]


def all_but_threshold(measured: Detection) -> dict[str, float]:
    return {name: value for name, value in asdict(measured).items() if name != "threshold"}


# Detection


def test_detection_by_hand() -> None:
    """In the order of scores: out out out, in, (in out), in, in."""
    measured = detection(torch.tensor([3.0, 1, 0, 2]), torch.tensor([4.0, 2, 4, 4]), seed=0)
    assert measured.auroc == (2.5 + 3 * 4) / 16
    assert measured.aupr_out == pytest.approx(3 / 4 * 1 + 1 / 4 * 4 / 6)
    assert measured.aupr_in == pytest.approx(2 / 4 * 1 + 1 / 4 * 3 / 4 + 1 / 4 * 4 / 5)
    assert measured.threshold == 3
    assert measured.fpr95_in == 1 / 4
    assert measured.fpr95_out == 2 / 4
    assert measured.detection_error == pytest.approx((1 / 4 + 0) / 2)


@pytest.mark.parametrize(
    ("size", "accepted"),
    [(1, 1), (19, 19), (20, 19), (21, 20), (40, 38), (100, 95), (101, 96), (10_000, 9500)],
)
def test_95_percent_is_met_and_not_by_more_than_one_sample(
    size: int, accepted: int, few_resamples: None
) -> None:
    in_n, out_m = torch.arange(float(size)), torch.tensor([-1.0, size])
    assert detection(in_n, out_m, seed=0).threshold == accepted - 1
    assert detection(out_m, in_n, seed=0).fpr95_out == 1 / 2
    rejected = detection(torch.arange(float(size)), torch.arange(float(size)), seed=0)
    assert rejected.fpr95_in == rejected.fpr95_out == pytest.approx(accepted / size)


def test_the_two_conventions_differ() -> None:
    """One OOD sample of 20 may be missed, so it spoils the one number and not the other."""
    measured = detection(torch.arange(20.0), torch.tensor([4.0] + 19 * [30.0]), seed=0)
    assert (measured.fpr95_in, measured.fpr95_out) == (1 / 20, 0)
    measured = detection(torch.tensor([40.0] + 19 * [4.0]), torch.arange(20.0) + 5, seed=0)
    assert (measured.fpr95_in, measured.fpr95_out) == (0, 1 / 20)


def test_perfect_scores() -> None:
    measured = detection(torch.arange(30.0), torch.arange(50.0, 60), seed=0)
    assert (measured.auroc, measured.auroc_low, measured.auroc_high) == (1, 1, 1)
    assert (measured.aupr_out, measured.aupr_in) == pytest.approx((1, 1))
    assert (measured.fpr95_in, measured.fpr95_out, measured.detection_error) == (0, 0, 0)
    assert measured.threshold == 28  # 29 of 30


def test_inverted_scores() -> None:
    measured = detection(torch.arange(50.0, 80), torch.arange(10.0), seed=0)
    assert (measured.auroc, measured.auroc_low, measured.auroc_high) == (0, 0, 0)
    assert (measured.fpr95_in, measured.fpr95_out, measured.detection_error) == (1, 1, 0.5)
    assert measured.aupr_out == pytest.approx(sum(k / (30 + k) for k in range(1, 11)) / 10)


def test_constant_scores_are_chance() -> None:
    measured = detection(torch.full((30,), 0.7), torch.full((10,), 0.7), seed=0)
    assert (measured.auroc, measured.auroc_low, measured.auroc_high) == (0.5, 0.5, 0.5)
    assert (measured.aupr_out, measured.aupr_in) == (1 / 4, 3 / 4)
    assert (measured.fpr95_in, measured.fpr95_out, measured.detection_error) == (1, 1, 0.5)
    assert measured.threshold == pytest.approx(0.7)


@PROPERTY
@given(
    n=st.integers(1, 60),
    m=st.integers(1, 60),
    levels=st.integers(1, 40),
    seed=st.integers(0, 10**6),
)
def test_detection_is_the_naive_one_and_scikit_learns(
    n: int, m: int, levels: int, seed: int
) -> None:
    in_n, out_m = scores(n, m, seed, levels)
    measured = detection(in_n, out_m, seed)
    wins_mn = (out_m[:, None] > in_n).double() + (out_m[:, None] == in_n).double() / 2
    assert measured.auroc == pytest.approx(float(wins_mn.mean()))
    thresholds = [*torch.cat([in_n, out_m]).tolist(), math.inf]
    errors = [((out_m < t).double().mean() + (in_n >= t).double().mean()) / 2 for t in thresholds]
    assert measured.detection_error == pytest.approx(float(min(errors)))
    score, is_out = torch.cat([in_n, out_m]).numpy(), np.arange(n + m) >= n
    assert measured.aupr_out == pytest.approx(average_precision_score(is_out, score))
    assert measured.aupr_in == pytest.approx(average_precision_score(~is_out, -score))
    for positive, sign, fpr95 in (
        (~is_out, -1, measured.fpr95_in),
        (is_out, 1, measured.fpr95_out),
    ):
        false_positive, true_positive, threshold = roc_curve(
            positive, sign * score, drop_intermediate=False
        )
        first = int(np.argmax(true_positive >= 0.95))
        assert fpr95 == pytest.approx(false_positive[first])
        assert sign == 1 or measured.threshold == -threshold[first]


@pytest.mark.parametrize(
    "rising", [lambda s: 3 * s - 100, torch.exp, lambda s: -1 / (1 + s), lambda s: s**3]
)
def test_only_the_threshold_changes_under_an_increasing_map(
    rising: Callable[[Tensor], Tensor],
) -> None:
    in_n, out_m = scores(80, 50, 3, 12)
    before, after = detection(in_n, out_m, seed=1), detection(rising(in_n), rising(out_m), seed=1)
    assert all_but_threshold(after) == all_but_threshold(before)
    assert after.threshold == rising(torch.tensor(before.threshold, dtype=torch.double)).item()


def test_a_flipped_sign_gives_the_complement_and_exchanged_sides_the_mirror() -> None:
    in_n, out_m = scores(80, 50, 5, 12)
    measured, flipped, mirrored = (
        detection(in_n, out_m, 0),
        detection(-in_n, -out_m, 0),
        detection(-out_m, -in_n, 0),
    )
    assert measured.auroc > 0.5
    assert flipped.auroc == pytest.approx(1 - measured.auroc)
    assert (flipped.auroc_low, flipped.auroc_high) == pytest.approx(
        (1 - measured.auroc_high, 1 - measured.auroc_low)
    )
    assert mirrored.auroc == pytest.approx(measured.auroc)
    assert mirrored.detection_error == pytest.approx(measured.detection_error)
    assert (mirrored.aupr_out, mirrored.aupr_in) == pytest.approx(
        (measured.aupr_in, measured.aupr_out)
    )
    assert (mirrored.fpr95_out, mirrored.fpr95_in) == (measured.fpr95_in, measured.fpr95_out)


@pytest.mark.parametrize("shift", [0.5, 2.0])
def test_detection_of_shifted_normal_scores(shift: float) -> None:
    """Closed forms, which unequal sizes do not touch."""
    normal = NormalDist()
    measured = detection(
        torch.randn(20_000, generator=source(0)),
        torch.randn(8_000, generator=source(1)) + shift,
        seed=0,
    )
    assert measured.auroc == pytest.approx(normal.cdf(shift / math.sqrt(2)), abs=0.01)
    assert measured.fpr95_in == pytest.approx(normal.cdf(normal.inv_cdf(0.95) - shift), abs=0.02)
    assert measured.fpr95_out == pytest.approx(normal.cdf(normal.inv_cdf(0.95) - shift), abs=0.02)
    assert measured.detection_error == pytest.approx(normal.cdf(-shift / 2), abs=0.01)
    assert measured.threshold == pytest.approx(normal.inv_cdf(0.95), abs=0.04)


def test_the_interval_is_as_wide_as_delongs() -> None:
    in_n, out_m = torch.randn(400, generator=source(3)), torch.randn(150, generator=source(4)) + 0.8
    wins_mn = (out_m[:, None] > in_n).double()
    error = math.sqrt(wins_mn.mean(dim=1).var() / 150 + wins_mn.mean(dim=0).var() / 400)
    low, high = auroc_interval(in_n, out_m, seed=0)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert (low + high) / 2 == pytest.approx(float(wins_mn.mean()), abs=error / 3)


def test_one_seed_gives_the_same_bits_and_the_global_stream_stays() -> None:
    in_n, out_m = scores(80, 50, 7, 30)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    measured = detection(in_n, out_m, seed=4)
    assert measured == detection(in_n, out_m, seed=4)
    assert (
        (measured.auroc_low, measured.auroc_high)
        == auroc_interval(in_n, out_m, seed=4)
        != auroc_interval(in_n, out_m, seed=5)
    )
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])  # type: ignore[index, arg-type]


# The claim of a clear threshold


def test_the_claim_by_hand() -> None:
    """The two most confident OOD samples are in the garbage class, or are not."""
    in_n, out_m = torch.tensor([0.9, 0.8, 0.95, 0.99]), torch.tensor([0.5, 0.7, 0.85, 0.99])
    claim = threshold_claim(in_n, out_m, torch.tensor([True, True, False, False]))
    assert claim.misclassified == 0.5
    assert claim.all_samples.least_in == pytest.approx(0.8)
    assert claim.all_samples.most_out == pytest.approx(0.7)
    assert claim.all_samples.gap == pytest.approx(0.1)
    assert claim.all_samples.holds
    assert (claim.all_samples.violations_out, claim.all_samples.violations_in) == (0, 0)

    claim = threshold_claim(in_n, out_m)
    assert claim.misclassified == 1
    assert claim.all_samples.gap == pytest.approx(0.8 - 0.99)
    assert not claim.all_samples.holds
    assert (claim.all_samples.violations_out, claim.all_samples.violations_in) == (2 / 4, 4 / 4)

    one = threshold_claim(in_n, out_m, torch.tensor([False, False, True, False])).all_samples
    assert (one.violations_out, one.violations_in) == (
        1 / 4,
        1 / 4,
    )  # of all OOD samples, not of the misclassified


def test_equal_confidences_speak_against_the_claim() -> None:
    gap = threshold_claim(torch.tensor([0.8, 1.0]), torch.tensor([0.8, 0.3])).all_samples
    assert (gap.gap, gap.holds, gap.violations_out, gap.violations_in) == (0, False, 0.5, 0.5)


def test_the_claim_holds_where_nothing_is_misclassified() -> None:
    claim = threshold_claim(
        torch.tensor([0.2, 0.9]), torch.tensor([0.95, 0.99, 1]), torch.zeros(3, dtype=torch.bool)
    )
    assert claim.misclassified == 0
    for gap in (claim.all_samples, claim.but_1_percent, claim.but_5_percent):
        assert math.isnan(gap.most_out)
        assert math.isnan(gap.gap)
        assert (gap.holds, gap.violations_out, gap.violations_in) == (True, 0, 0)


@pytest.mark.parametrize(
    ("outliers", "holds"),
    [(0, (True, True, True)), (1, (False, True, True)), (6, (False, False, True))],
)
def test_outliers_decide_only_where_they_are_enough(
    outliers: int, holds: tuple[bool, bool, bool]
) -> None:
    """Of 200 samples on either side, 1 is 0.5 % and 6 are 3 %."""
    in_n, out_m = (
        torch.full((200,), 0.9, dtype=torch.double),
        torch.full((200,), 0.5, dtype=torch.double),
    )
    in_n[:outliers], out_m[:outliers] = 0.1, 0.95
    claim = threshold_claim(in_n, out_m)
    assert (claim.all_samples.holds, claim.but_1_percent.holds, claim.but_5_percent.holds) == holds
    assert claim.but_5_percent.gap == pytest.approx(0.4)
    assert claim.but_5_percent.violations_out == claim.but_5_percent.violations_in == outliers / 200
    assert claim.all_samples.gap == pytest.approx(0.1 - 0.95 if outliers else 0.4)


def test_quantiles_are_those_of_the_misclassified() -> None:
    in_n, out_m = (
        torch.linspace(0, 1, 101, dtype=torch.double),
        torch.linspace(0, 1, 101, dtype=torch.double),
    )
    claim = threshold_claim(in_n, out_m, out_m <= 0.5)
    assert (claim.but_1_percent.least_in, claim.but_5_percent.least_in) == pytest.approx(
        (0.01, 0.05)
    )
    assert (claim.but_1_percent.most_out, claim.but_5_percent.most_out) == pytest.approx(
        (0.495, 0.475)
    )
    assert claim.but_5_percent.violations_in == pytest.approx(48 / 101)  # 0 to 0.47


# Calibration and garbage


def binary(confidence: list[float], correct: list[bool]) -> tuple[Tensor, Tensor]:
    """Probabilities of 2 classes of which the first is predicted, and labels."""
    p_n = torch.tensor(confidence, dtype=torch.double)
    return torch.stack([p_n, 1 - p_n], dim=1), (~torch.tensor(correct)).long()


def test_calibration_by_hand() -> None:
    """Two bins: 3 of 4 right at 0.8, 1 of 2 at 0.6."""
    measured = calibration(
        *binary([0.8, 0.8, 0.8, 0.8, 0.6, 0.6], [True, True, True, False, True, False])
    )
    assert measured.ece == pytest.approx(4 / 6 * abs(3 / 4 - 0.8) + 2 / 6 * abs(1 / 2 - 0.6))
    assert measured.brier == pytest.approx(
        (3 * 2 * 0.2**2 + 2 * 0.8**2 + 2 * 0.4**2 + 2 * 0.6**2) / 6
    )


def test_brier_of_three_classes_by_hand() -> None:
    probability_nN = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    expected = ((0.25 + 0.49 + 0.04) + (0.01 + 0.01 + 0.04)) / 2
    assert calibration(probability_nN, torch.tensor([1, 2])).brier == pytest.approx(expected)


@pytest.mark.parametrize(
    ("wrong", "right", "together"),
    [
        (0.61, 0.65, True),
        (0.59, 0.61, False),
        (0.6, 0.61, False),
        (0.56, 0.6, True),
        (1.0, 0.95, True),
        (1.0, 0.92, False),
    ],
)
def test_bins_are_fifteenths_and_hold_their_upper_end(
    wrong: float, right: float, together: bool
) -> None:
    """Errors of opposite sign cancel within a bin alone; 0.6 is 9 / 15."""
    too_sure, too_unsure = -wrong, 1 - right
    expected = abs(too_sure + too_unsure) if together else abs(too_sure) + abs(too_unsure)
    assert calibration(*binary([wrong, right], [False, True])).ece == pytest.approx(expected / 2)


def test_extremes_of_calibration() -> None:
    certain_nN, label_n = torch.eye(4)[[0, 1, 2, 3, 3]], torch.tensor([0, 1, 2, 3, 3])
    assert asdict(calibration(certain_nN, label_n)) == {"ece": 0, "brier": 0}
    assert asdict(calibration(certain_nN, (label_n + 1) % 4)) == {"ece": 1, "brier": 2}
    assert calibration(torch.full((5, 4), 0.25), label_n).brier == pytest.approx(1 - 1 / 4)


def test_a_confidence_rounded_to_above_1_is_in_the_last_bin() -> None:
    measured = calibration(torch.tensor([[1 + 1e-6, 0.0], [0.95, 0.05]]), torch.tensor([0, 1]))
    assert measured.ece == pytest.approx(0.95 / 2, abs=1e-5)


def test_calibration_is_that_of_the_libraries() -> None:
    probability_nN = (2 * torch.randn(500, 5, generator=source(0), dtype=torch.double)).softmax(
        dim=1
    )
    label_n = torch.randint(5, (500,), generator=source(1))
    expected = multiclass_calibration_error(
        probability_nN, label_n, num_classes=5, n_bins=15, norm="l1"
    )
    assert calibration(probability_nN, label_n).ece == pytest.approx(float(expected))
    two_nN = probability_nN[:, :2] / probability_nN[:, :2].sum(dim=1, keepdim=True)
    assert calibration(two_nN, label_n % 2).brier == pytest.approx(
        2 * brier_score_loss((label_n % 2).numpy(), two_nN[:, 1].numpy())
    )


def test_labels_drawn_from_the_probabilities_are_calibrated() -> None:
    """And sharpened probabilities of the same labels are not."""
    logits_nN = torch.randn(20_000, 4, generator=source(2))
    label_n = torch.multinomial(logits_nN.softmax(dim=1), 1, generator=source(3))[:, 0]
    honest, sharpened = (
        calibration(logits_nN.softmax(dim=1), label_n),
        calibration((4 * logits_nN).softmax(dim=1), label_n),
    )
    assert honest.ece < 0.02
    assert sharpened.ece > 0.2
    assert honest.brier < sharpened.brier


def test_garbage_rate_by_hand() -> None:
    assert garbage_rate(torch.tensor([0, 10, 9, 10, 10]), num_classes=10) == pytest.approx(3 / 5)
    assert garbage_rate(torch.tensor([0, 9]), num_classes=10) == 0


# Wrong input

GOOD, NONE = torch.tensor([0.1, 0.2]), torch.tensor([])


@pytest.mark.parametrize(
    "measure", [lambda in_n, out_m: detection(in_n, out_m, seed=0), threshold_claim]
)
@pytest.mark.parametrize(
    ("in_n", "out_m", "expected"),
    [
        (NONE, GOOD, " of in-distribution samples: there are none"),
        (GOOD, NONE, " of out-of-distribution samples: there are none"),
        (
            torch.tensor([0.1, math.nan, math.nan]),
            GOOD,
            " of in-distribution samples: 2 of 3 are NaN or infinite",
        ),
        (
            GOOD,
            torch.tensor([0.1, -math.inf]),
            " of out-of-distribution samples: 1 of 2 are NaN or infinite",
        ),
    ],
)
def test_empty_and_broken_scores_are_refused(
    measure: Callable[[Tensor, Tensor], object], in_n: Tensor, out_m: Tensor, expected: str
) -> None:
    with pytest.raises(InputError, match=expected) as raised:
        measure(in_n, out_m)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "values",
    [[[2.0, -1.0]], [[0.5, 0.6]], [[0.5, 0.5], [math.nan, 0.5]], [[0.5, 0.5], [3.0, 4.0]]],
    ids=["negative", "sum", "nan", "logits"],
)
def test_what_are_not_probabilities_is_refused(values: list[list[float]]) -> None:
    with pytest.raises(InputError, match=r"^probabilities: .* softmax") as raised:
        calibration(torch.tensor(values), torch.zeros(len(values), dtype=torch.long))
    assert "\n" not in str(raised.value)


def test_nothing_to_calibrate_or_count_is_refused() -> None:
    with pytest.raises(InputError, match=r"^probabilities: there are none"):
        calibration(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    with pytest.raises(InputError, match=r"^predicted classes: there are none"):
        garbage_rate(torch.zeros(0, dtype=torch.long), 10)
