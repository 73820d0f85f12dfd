"""Train without Lightning: a gradient step, a resumable loop, and groups for weight decay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from netinv_lightning.training.snapshots import Snapshots, Stateful

OnStep = Callable[[int, float], None]
"""Called after each step with its number, counted from 1, and its loss."""


def descend(loss: Tensor, optimizer: Optimizer, schedule: LRScheduler | None = None) -> None:
    """Take one gradient step of the optimiser, then one step of the schedule."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if schedule is not None:
        schedule.step()


def train_steps(
    compute_loss: Callable[[int], Tensor],
    optimizer: Optimizer,
    schedule: LRScheduler,
    steps: int,
    *,
    parts: Mapping[str, Stateful] | None = None,
    snapshots: Snapshots | None = None,
    on_step: OnStep | None = None,
) -> None:
    """Minimise a loss for a number of steps, or continue a stopped training.

    Args:
        compute_loss: Function that returns the loss of a step, from its number, counted from 0.
        optimizer: The optimiser of the trained weights.
        schedule: The schedule of the learning rate.
        steps: Steps of the whole training.
        parts: Further parts of a snapshot, by name: everything that `compute_loss` changes.
        snapshots: Saves the training, so that it can be resumed; None to save nothing.
        on_step: Called after each step.
    """
    saved: dict[str, Stateful] = {"optimizer": optimizer, "schedule": schedule, **(parts or {})}
    with (snapshots or Snapshots()).kept(steps, **saved) as (first, done):
        for step in range(first, steps):
            loss = compute_loss(step)
            descend(loss, optimizer, schedule)
            if on_step is not None:
                on_step(step + 1, float(loss.detach()))
            done(step + 1)


def decayed_weights(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that weight decay applies to, by name: matrices and kernels."""
    return {name: weight for name, weight in module.named_parameters() if weight.ndim > 1}


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the parameter groups of an optimiser: biases and BatchNorm have no weight decay."""
    plain = [weight for weight in module.parameters() if weight.ndim <= 1]
    return [
        {"params": list(decayed_weights(module).values()), "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
