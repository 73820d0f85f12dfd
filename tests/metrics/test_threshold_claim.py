"""The claim that a confidence threshold separates OOD samples, with cases worked by hand.

Shape suffixes: n in-distribution samples, m OOD samples.
"""

from __future__ import annotations

import math

import pytest
import torch

from netinv_lightning.metrics.detection import (
    threshold_claim,
)


def test_the_claim_by_hand() -> None:
    """Test with and without a garbage class that contains the two most confident OOD samples."""
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
    # A share of all OOD samples, not of the misclassified ones
    assert (one.violations_out, one.violations_in) == (
        1 / 4,
        1 / 4,
    )


def test_equal_confidences_contradict_the_claim() -> None:
    gap = threshold_claim(torch.tensor([0.8, 1.0]), torch.tensor([0.8, 0.3])).all_samples
    assert (gap.gap, gap.holds, gap.violations_out, gap.violations_in) == (0, False, 0.5, 0.5)


def test_the_claim_holds_if_nothing_is_misclassified() -> None:
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
def test_few_outliers_do_not_decide_the_claim(
    outliers: int, holds: tuple[bool, bool, bool]
) -> None:
    """One of 200 samples is 0.5 %, and six are 3 %."""
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


def test_quantiles_refer_to_the_misclassified_samples() -> None:
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
