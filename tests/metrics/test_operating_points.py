"""True positive rates at low false positive rates, and exact intervals."""

from __future__ import annotations

import pytest
import torch

from netinv_lightning.metrics.operating_points import exact_interval, operating_point


def test_exact_intervals_by_hand() -> None:
    """With 0 or all successes the limits have a closed form: (alpha / 2)^(1 / n)."""
    assert exact_interval(0, 10) == pytest.approx((0, 1 - 0.025 ** (1 / 10)))
    assert exact_interval(10, 10) == pytest.approx((0.025 ** (1 / 10), 1))
    # One of one: from 0.025 to 1. One of two: 1 - sqrt(0.975) to sqrt(0.975).
    assert exact_interval(1, 1) == pytest.approx((0.025, 1))
    assert exact_interval(1, 2) == pytest.approx((1 - 0.975**0.5, 0.975**0.5))


@pytest.mark.parametrize(
    ("level", "rate", "false"),
    [
        (0.001, 0.4, 0),  # none of 10 may be above the threshold, which is 10
        (0.1, 0.6, 1),  # one may be: the threshold is 9
        (0.25, 0.8, 2),  # rounded down to two
    ],
)
def test_operating_points_by_hand(level: float, rate: float, false: int) -> None:
    negatives = torch.arange(1.0, 11.0)
    positives = torch.tensor([0.0, 9.0, 8.5, 9.5, 11.0, 12.0, 13.0, 14.0, 10.0, 3.0])
    point = operating_point(positives, negatives, level)
    assert (point.true_positive_rate, point.false_positives) == (rate, false)
    assert point.interval == exact_interval(round(rate * 10), 10)
    assert point.highest_false_positive_rate == exact_interval(false, 10)[1]


def test_ties_count_as_negative() -> None:
    point = operating_point(torch.ones(5), torch.ones(1000), 0.01)
    assert (point.true_positive_rate, point.false_positives) == (0, 0)
