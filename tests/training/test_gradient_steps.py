"""Training loops without Lightning.

Shape suffixes: W weights.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.gradient_steps import (
    OnStep,
    decay_groups,
    decayed_weights,
    descend,
    train_steps,
)
from netinv_lightning.training.schedules import one_cycle
from netinv_lightning.training.snapshots import Snapshots

STEPS = 8


class Stopped(Exception):
    """Raised by a test to interrupt the training."""


def test_two_steps_of_gradient_descent_by_hand() -> None:
    weight_W = torch.tensor([3.0, -1.0], requires_grad=True)
    optimizer = torch.optim.SGD([weight_W], lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    for _ in range(2):
        descend(weight_W.square().sum(), optimizer, schedule)
    # The gradient is 2 w. The first step gives 0.8 w; the second, at half the learning rate, 0.9 of
    # that.
    torch.testing.assert_close(weight_W.detach(), torch.tensor([2.16, -0.72]))
    assert schedule.get_last_lr() == [0.025]
    descend(weight_W.sum(), optimizer)
    assert schedule.get_last_lr() == [0.025]


def trained(snapshots: Snapshots | None = None, on_step: OnStep | None = None) -> Tensor:
    """Return weights that were trained with a random gradient per step."""
    weight_W, stream = torch.zeros(3, requires_grad=True), Stream(0)
    optimizer = torch.optim.Adam([weight_W], 0.1)
    model = nn.ParameterList([weight_W])

    def compute_loss(step: int) -> Tensor:
        return (stream.uniform(3) * (model[0] - step)).sum()

    train_steps(
        compute_loss,
        optimizer,
        one_cycle(optimizer, lr=0.1, steps=STEPS, rise=0.25),
        STEPS,
        parts={"model": model, "stream": stream},
        snapshots=snapshots,
        on_step=on_step,
    )
    return model[0].detach()


def test_a_resumed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    path, steps = tmp_path / "run" / "training.pt", []
    path.parent.mkdir()

    def stop(step: int, loss: float) -> None:
        if step == 5:
            raise Stopped

    with pytest.raises(Stopped):
        trained(Snapshots(path, every=2), on_step=stop)
    resumed_W = trained(
        Snapshots(path, resuming=True, every=2), on_step=lambda step, loss: steps.append(step)
    )
    assert steps == [5, 6, 7, 8]
    assert torch.equal(resumed_W, trained())


def test_only_matrices_and_kernels_have_weight_decay() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3))
    assert {name: weight.ndim for name, weight in decayed_weights(network).items()} == {
        "0.weight": 4,
        "2.weight": 2,
    }
    decayed, plain = decay_groups(network, 0.01)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)
    assert [weight.ndim for weight in plain["params"]] == [1, 1, 1, 1]
