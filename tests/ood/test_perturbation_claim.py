"""The claim on norms: comparison at equal size, its verdict and its table."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch

from netinv_lightning.inversion.perturbation import NORMS
from netinv_lightning.ood.paired_auroc import Strength, interpolate, norm_gain
from netinv_lightning.ood.perturbation_results import (
    COLUMNS,
    DIRECTIONS,
    NormGain,
    PerturbationResults,
    PerturbationRow,
)

# Comparison at equal size


def strength(rms: float, *aurocs: float, S: int = 1001) -> Strength:
    return Strength(rms, torch.tensor(aurocs).double()[:, None].expand(-1, S))


STRENGTHS = [strength(0.0, 0.5, 0.5), strength(0.01, 0.6, 0.5), strength(0.03, 0.8, 0.9)]


def test_interpolation_between_strengths_is_logarithmic() -> None:
    for point in STRENGTHS:
        torch.testing.assert_close(interpolate(STRENGTHS, point.rms), point.auroc_DS)
    assert interpolate(STRENGTHS, 0.09)[:, 0].tolist() == pytest.approx([0.8, 0.9])
    middle = 0.01 * (8**0.5 - 1)  # log(1 + size / 0.01) is log 2 at one end and log 4 at the other
    assert interpolate(STRENGTHS, middle)[:, 0].tolist() == pytest.approx([0.7, 0.7])
    assert interpolate(STRENGTHS, 0.01 * (2**0.5 - 1))[:, 0].tolist() == pytest.approx([0.55, 0.5])


def test_gain_is_the_mean_difference_at_equal_size() -> None:
    """Strengths above all Linf perturbations are ignored, whatever their AUROC."""
    judged = norm_gain(
        "random",
        "l1",
        [strength(0.01, 0.7, 0.5), strength(0.03, 0.7, 1.0), strength(0.031, 1.0, 1.0)],
        STRENGTHS,
        seed=0,
    )
    # The differences are +0.1, 0, -0.1 and +0.1.
    assert (judged.settings, judged.higher, judged.mean) == (
        4,
        2,
        pytest.approx(0.025),
    )
    assert judged.spread == pytest.approx(((2 * 0.075**2 + 0.025**2 + 0.125**2) / 4) ** 0.5)
    assert judged.low < 0 < judged.high
    none = norm_gain("random", "l1", [strength(0.04, 1.0, 1.0)], STRENGTHS, seed=0)
    assert (none.settings, none.higher, str(none)) == (0, 0, "l1 never reached at equal RMS")
    assert math.isnan(none.mean)


def test_a_single_setting_does_not_decide_the_claim() -> None:
    """With seven of eight differences at 0, the interval includes 0."""
    linf = [strength(0.0, *[0.5] * 8), strength(0.1, *[0.5] * 8)]
    alone = norm_gain("random", "l2", [strength(0.1, *[0.5] * 7, 0.9)], linf, seed=0)
    assert (alone.low, alone.mean) == (0, pytest.approx(0.05))
    agreed = norm_gain("random", "l2", [strength(0.1, *[0.52, 0.54] * 4)], linf, seed=0)
    assert 0.02 < agreed.low < agreed.mean < agreed.high < 0.04


# The verdict


def row(direction: str, norm: str, share: float) -> PerturbationRow:
    return PerturbationRow(direction, norm, 0.1, "msp", 0.7, 0.6, 0.8, 0.9, share, 2.8, 0.3)


def judged(direction: str, norm: str, low: float, high: float, settings: int = 8) -> NormGain:
    return NormGain(direction, norm, settings, 5, (low + high) / 2, low, high, 0.01)


def results(
    l1: tuple[float, float],
    l2: tuple[float, float],
    shares: tuple[float, float, float],
    settings: int = 8,
) -> PerturbationResults:
    rows = [
        row(direction, norm, share)
        for direction in DIRECTIONS
        for norm, share in zip(NORMS, shares, strict=True)
    ]
    gains = [
        judged(direction, norm, *ends, settings)
        for direction in DIRECTIONS
        for norm, ends in (("l1", l1), ("l2", l2))
    ]
    return PerturbationResults(tuple(rows), tuple(gains), {"msp": 0.51}, 0.99)


UP, DOWN, NEITHER = (0.01, 0.03), (-0.03, -0.01), (-0.01, 0.02)


@pytest.mark.parametrize(
    ("l1", "l2", "claim"),
    [
        (UP, UP, "holds for random"),
        (UP, DOWN, "holds for l1 only for random"),
        (NEITHER, UP, "holds for l2 only for random"),
        (NEITHER, NEITHER, "not confirmed for random"),
        (NEITHER, DOWN, "refuted for random"),
        (DOWN, DOWN, "refuted for random"),
    ],
)
def test_verdict_on_detection_follows_the_intervals(
    l1: tuple[float, float], l2: tuple[float, float], claim: str
) -> None:
    verdict = results(l1, l2, (0.2, 0.1, 0.03)).verdict()
    assert (
        f"better than Linf at equal RMS: {claim} perturbations "
        f"(difference of AUROC: l1 {sum(l1) / 2:+.3f} [" in verdict
    )
    assert verdict.count(". ") == 1
    assert verdict.endswith(".")


@pytest.mark.parametrize(
    ("shares", "claim"),
    [
        ((0.2, 0.1, 0.03), "refuted"),
        ((0.01, 0.02, 0.03), "holds"),
        ((0.02, 0.1, 0.03), "holds for l1 only"),
    ],
)
def test_verdict_on_evenness_follows_the_shares(
    shares: tuple[float, float, float], claim: str
) -> None:
    expected = ", ".join(f"{norm} {share:.2f}" for norm, share in zip(NORMS, shares, strict=True))
    verdict = results(UP, UP, shares).verdict()
    assert verdict.endswith(
        f"and {claim} for adversarial perturbations "
        f"(squared change in the top 1 % of pixels: {expected})."
    )


def test_claim_without_equal_sizes_is_not_tested() -> None:
    verdict = results((math.nan,) * 2, (math.nan,) * 2, (0.2, 0.1, 0.03), settings=0).verdict()
    assert (
        "not tested for random perturbations (difference of AUROC: l1 never reached at equal RMS; "
        "l2 never" in verdict
    )


def test_table_has_all_rows_and_the_verdict_as_a_note() -> None:
    whole = results(UP, NEITHER, (0.2, 0.1, 0.03))
    table = whole.table()
    assert len(table.rows) == 6
    assert table.notes[0] == whole.verdict()
    assert "accuracy 0.990" in table.notes[1]
    assert "msp 0.510" in table.notes[1]
    assert list(COLUMNS) == [field.name for field in fields(PerturbationRow)]
    cells = dict(zip(table.columns, table.rows[1], strict=True))
    assert (cells["direction"], cells["norm"], cells["AUROC"], cells["top 1 %"], cells["L2"]) == (
        "random",
        "l2",
        0.7,
        0.1,
        2.8,
    )
