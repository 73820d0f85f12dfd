"""Training loops without Lightning.

Shape suffixes: W weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.errors import InputError
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
    model, stream = nn.ParameterList([torch.zeros(3)]), Stream(0)
    optimizer = torch.optim.Adam(model, 0.1)

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
    assert resumed_W.abs().min() > 0


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda state: state["model"].update({"0": torch.zeros(1)}), r"model\.0 is \(1,\) in the"),
        (lambda state: state["model"].clear(), r"model\.0 is missing in the file, \(3,\) in the"),
        (
            lambda state: state["optimizer"]["state"][0].update({"exp_avg": torch.zeros(1)}),
            r"optimizer\.state\.0\.exp_avg is \(1,\) in the file, \(3,\) in the training",
        ),
    ],
)
def test_a_snapshot_of_other_shapes_is_refused(
    damage: Callable[[dict[str, Any]], object], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "run" / "training.pt"
    path.parent.mkdir()
    trained(Snapshots(path, every=2))
    state = torch.load(path, weights_only=True)
    damage(state)
    torch.save(state, path)
    with pytest.raises(InputError, match=f"training.pt: belongs to another training .*{said}"):
        trained(Snapshots(path, resuming=True, every=2))


def test_only_matrices_and_kernels_have_weight_decay() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3))
    assert {name: weight.ndim for name, weight in decayed_weights(network).items()} == {
        "0.weight": 4,
        "2.weight": 2,
    }
    decayed, plain = decay_groups(network, 0.01)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)
    assert [weight.ndim for weight in plain["params"]] == [1, 1, 1, 1]
