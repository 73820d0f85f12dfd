"""Calibration error and Brier score, by hand, at the extremes and against libraries.

Shape suffixes: n samples, N classes.
"""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest
import torch
from hypothesis import settings
from sklearn.metrics import brier_score_loss
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from netinv_lightning.errors import InputError
from netinv_lightning.metrics.calibration import calibration

PROPERTY = settings(deadline=None, derandomize=True, max_examples=25)


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def binary(confidence: list[float], correct: list[bool]) -> tuple[Tensor, Tensor]:
    """Return probabilities of 2 classes, of which the first is predicted, and labels."""
    p_n = torch.tensor(confidence, dtype=torch.double)
    return torch.stack([p_n, 1 - p_n], dim=1), (~torch.tensor(correct)).long()


def test_calibration_by_hand() -> None:
    """Two bins: 3 of 4 correct at confidence 0.8, and 1 of 2 at 0.6."""
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
def test_bins_are_fifteenths_with_their_upper_end(
    wrong: float, right: float, together: bool
) -> None:
    """Errors of opposite sign cancel only within a bin. The confidence 0.6 is 9 / 15."""
    too_sure, too_unsure = -wrong, 1 - right
    expected = abs(too_sure + too_unsure) if together else abs(too_sure) + abs(too_unsure)
    assert calibration(*binary([wrong, right], [False, True])).ece == pytest.approx(expected / 2)


def test_perfect_and_worst_calibration() -> None:
    certain_nN, label_n = torch.eye(4)[[0, 1, 2, 3, 3]], torch.tensor([0, 1, 2, 3, 3])
    assert asdict(calibration(certain_nN, label_n)) == {"ece": 0, "brier": 0}
    assert asdict(calibration(certain_nN, (label_n + 1) % 4)) == {"ece": 1, "brier": 2}
    assert calibration(torch.full((5, 4), 0.25), label_n).brier == pytest.approx(1 - 1 / 4)


def test_a_confidence_just_above_1_is_in_the_last_bin() -> None:
    measured = calibration(torch.tensor([[1 + 1e-6, 0.0], [0.95, 0.05]]), torch.tensor([0, 1]))
    assert measured.ece == pytest.approx(0.95 / 2, abs=1e-5)


def test_calibration_equals_that_of_other_libraries() -> None:
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
    """After sharpening, the probabilities of the same labels are not calibrated."""
    logits_nN = torch.randn(20_000, 4, generator=source(2))
    label_n = torch.multinomial(logits_nN.softmax(dim=1), 1, generator=source(3))[:, 0]
    honest, sharpened = (
        calibration(logits_nN.softmax(dim=1), label_n),
        calibration((4 * logits_nN).softmax(dim=1), label_n),
    )
    assert honest.ece < 0.02
    assert sharpened.ece > 0.2
    assert honest.brier < sharpened.brier


@pytest.mark.parametrize(
    "values",
    [[[2.0, -1.0]], [[0.5, 0.6]], [[0.5, 0.5], [math.nan, 0.5]], [[0.5, 0.5], [3.0, 4.0]]],
    ids=["negative", "sum", "nan", "logits"],
)
def test_invalid_probabilities_are_refused(values: list[list[float]]) -> None:
    with pytest.raises(InputError, match=r"^probabilities: .* softmax") as raised:
        calibration(torch.tensor(values), torch.zeros(len(values), dtype=torch.long))
    assert "\n" not in str(raised.value)


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(InputError, match=r"^probabilities: are empty"):
        calibration(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
