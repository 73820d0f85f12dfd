"""Learning rate schedules."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR


def one_cycle(optimizer: Optimizer, lr: float, steps: int, rise: float) -> OneCycleLR:
    """One-cycle learning rate (Smith & Topin 2018, arXiv:1708.07120) without a cycle of the momentum; works for any number of steps.

    Args:
        optimizer: Whose learning rate is set.
        lr: Highest learning rate.
        steps: Of the whole training.
        rise: Share of the steps in which the learning rate rises, 0 to 1.
    """
    if rise * steps == 1:  # torch divides by the number of steps after the first in which it rises
        rise *= 1 + 1e-9
    return OneCycleLR(optimizer, lr, steps, pct_start=rise, cycle_momentum=False)
