"""Classification accuracy score of correct, swapped and random labels.

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.networks import MLP
from netinv_lightning.metrics.cas import ClassificationAccuracyScore


def bright_and_dark(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return noisy images, with class 1 brighter than class 0 by 0.3."""
    source = torch.Generator().manual_seed(seed)
    label_n = torch.arange(n) % 2
    return 0.5 * torch.rand(n, 1, 4, 4, generator=source) + 0.3 * label_n[
        :, None, None, None
    ], label_n


def network() -> nn.Module:
    return MLP(2, 1, 4, widths=(16,))


def score(x_nCHW: Tensor, label_n: Tensor, seed: int = 0) -> float:
    metric = ClassificationAccuracyScore(network, *bright_and_dark(200, seed=1), seed=seed)
    for part in torch.arange(len(label_n)).split(150):
        metric.update(x_nCHW[part], label_n[part])
    return metric.compute().item()


def test_score_of_correct_swapped_and_random_labels() -> None:
    x_nCHW, label_n = bright_and_dark(400, seed=2)
    assert score(x_nCHW, label_n) > 0.98
    assert score(x_nCHW, 1 - label_n) < 0.02
    noise = torch.rand(400, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    assert 0.2 < score(noise, label_n) < 0.8


@pytest.mark.parametrize("n", [2, 130])
def test_training_is_repeatable_and_uses_no_global_randomness(n: int) -> None:
    """Test as few images as BatchNorm allows, and an incomplete last batch."""
    x_nCHW, label_n = bright_and_dark(n, seed=4)
    before = torch.get_rng_state()
    trained: list[nn.Module] = []

    def make_and_keep() -> nn.Module:
        trained.append(network())
        return trained[-1]

    for seed in (0, 0, 1):
        metric = ClassificationAccuracyScore(make_and_keep, *bright_and_dark(20, seed=1), seed=seed)
        metric.update(x_nCHW, label_n)
        assert 0 <= metric.compute() <= 1
    weights = [dict(made.named_parameters())["head.weight"] for made in trained]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_training_works_inside_no_grad() -> None:
    x_nCHW, label_n = bright_and_dark(400, seed=2)
    with torch.no_grad():
        assert score(x_nCHW, label_n) > 0.98
