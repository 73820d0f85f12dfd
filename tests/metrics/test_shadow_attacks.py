"""LiRA and RMIA of a few shadow networks, with values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from netinv_lightning.metrics.shadow_attacks import lira_offline, lira_online, rmia

INCLUDED = torch.tensor([[True, False], [True, False], [False, True], [False, True]])
SHADOWS = torch.tensor([[4.0, -1.0], [6.0, 1.0], [-1.0, 3.0], [1.0, 5.0]]).double()
SCORES = torch.tensor([5.0, 0.0]).double()


def test_lira_by_hand() -> None:
    """Means 5 and 0, and 4 and 0; each kind has the squares 1 + 1 + 1 + 1, and 4 - 2 degrees."""
    deviation = math.sqrt(4 / 2)
    assert lira_offline(SCORES, SHADOWS, INCLUDED).tolist() == pytest.approx([5 / deviation, 0])
    expected = [5**2 / 2 / deviation**2, -(4**2) / 2 / deviation**2]
    assert lira_online(SCORES, SHADOWS, INCLUDED).tolist() == pytest.approx(expected)


def test_rmia_by_hand() -> None:
    def p(score: float) -> float:
        return 1 / (1 + math.exp(-score))

    without = [(p(-1) + p(1)) / 2, (p(-1) + p(1)) / 2]  # 0.5 each
    both = [((p(4) + p(6)) / 2 + 0.5) / 2, ((p(3) + p(5)) / 2 + 0.5) / 2]
    assert without == pytest.approx([0.5, 0.5])
    online = rmia(SCORES, SHADOWS, INCLUDED)
    assert online.exp().tolist() == pytest.approx([p(5) / both[0], p(0) / both[1]])
    offline = rmia(SCORES, SHADOWS, INCLUDED, online=False)
    assert offline.exp().tolist() == pytest.approx([p(5) / 0.675, p(0) / 0.675])
