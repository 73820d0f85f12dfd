"""Detection metrics, against hand-worked tables, closed forms and scikit-learn.

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
from sklearn.metrics import average_precision_score, roc_curve
from torch import Tensor

from netinv_lightning.errors import InputError
from netinv_lightning.metrics import detection as module
from netinv_lightning.metrics.detection import (
    Detection,
    auroc_interval,
    detection,
    garbage_rate,
    threshold_claim,
)

PROPERTY = settings(deadline=None, derandomize=True, max_examples=25)


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use few resamples, for tests that ignore the confidence interval."""
    monkeypatch.setattr(module, "RESAMPLES", 2)


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scores(n: int, m: int, seed: int, levels: int) -> tuple[Tensor, Tensor]:
    """Return integers, which have ties; OOD samples have higher scores on average."""
    return tuple(
        torch.randint(levels, (size,), generator=source(seed + i)).double() + i
        for i, size in enumerate((n, m))
    )  # type: ignore[return-value]


def all_but_threshold(measured: Detection) -> dict[str, float]:
    return {name: value for name, value in asdict(measured).items() if name != "threshold"}


# Detection


def test_detection_by_hand() -> None:
    """Samples in the order of their scores: out, out, out, in, (in and out), in, in."""
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
def test_the_threshold_accepts_95_percent_to_within_one_sample(
    size: int, accepted: int, few_resamples: None
) -> None:
    in_n, out_m = torch.arange(float(size)), torch.tensor([-1.0, size])
    assert detection(in_n, out_m, seed=0).threshold == accepted - 1
    assert detection(out_m, in_n, seed=0).fpr95_out == 1 / 2
    rejected = detection(torch.arange(float(size)), torch.arange(float(size)), seed=0)
    assert rejected.fpr95_in == rejected.fpr95_out == pytest.approx(accepted / size)


def test_the_two_conventions_differ() -> None:
    """One of 20 OOD samples may be missed, which affects only one of the two numbers."""
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
def test_detection_equals_pairs_and_scikit_learn(n: int, m: int, levels: int, seed: int) -> None:
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
def test_an_increasing_map_changes_only_the_threshold(
    rising: Callable[[Tensor], Tensor],
) -> None:
    in_n, out_m = scores(80, 50, 3, 12)
    before, after = detection(in_n, out_m, seed=1), detection(rising(in_n), rising(out_m), seed=1)
    assert all_but_threshold(after) == all_but_threshold(before)
    assert after.threshold == rising(torch.tensor(before.threshold, dtype=torch.double)).item()


def test_detection_under_flipped_sign_and_exchanged_sides() -> None:
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
    """Compare with closed forms, which do not depend on the sample sizes."""
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


def test_the_interval_has_the_width_of_delong() -> None:
    in_n, out_m = torch.randn(400, generator=source(3)), torch.randn(150, generator=source(4)) + 0.8
    wins_mn = (out_m[:, None] > in_n).double()
    error = math.sqrt(wins_mn.mean(dim=1).var() / 150 + wins_mn.mean(dim=0).var() / 400)
    low, high = auroc_interval(in_n, out_m, seed=0)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert (low + high) / 2 == pytest.approx(float(wins_mn.mean()), abs=error / 3)


def test_detection_is_repeatable_and_uses_no_global_randomness() -> None:
    in_n, out_m = scores(80, 50, 7, 30)
    state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    measured = detection(in_n, out_m, seed=4)
    assert measured == detection(in_n, out_m, seed=4)
    assert (
        (measured.auroc_low, measured.auroc_high)
        == auroc_interval(in_n, out_m, seed=4)
        != auroc_interval(in_n, out_m, seed=5)
    )
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])  # type: ignore[index, arg-type]


# Garbage


def test_garbage_rate_by_hand() -> None:
    assert garbage_rate(torch.tensor([0, 10, 9, 10, 10]), num_classes=10) == pytest.approx(3 / 5)
    assert garbage_rate(torch.tensor([0, 9]), num_classes=10) == 0


# Invalid input

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
def test_empty_and_invalid_scores_are_refused(
    measure: Callable[[Tensor, Tensor], object], in_n: Tensor, out_m: Tensor, expected: str
) -> None:
    with pytest.raises(InputError, match=expected) as raised:
        measure(in_n, out_m)
    assert "\n" not in str(raised.value)


def test_an_empty_set_has_no_garbage_rate() -> None:
    with pytest.raises(InputError, match=r"^predicted classes: there are none"):
        garbage_rate(torch.zeros(0, dtype=torch.long), 10)
