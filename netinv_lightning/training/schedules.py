"""Learning rate schedules."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR


def cosine_share(angle: float, final: float) -> float:
    """Return the learning rate as a share of the highest one, along a cosine.

    Args:
        angle: 0 at the first step, pi at the last one.
        final: The share at the last step.
    """
    return final + (1 - final) * (1 + math.cos(angle)) / 2


def one_cycle(optimizer: Optimizer, lr: float, steps: int, rise: float) -> OneCycleLR:
    """Return a one-cycle learning rate (Smith & Topin 2018, arXiv:1708.07120).

    The momentum does not change. Any number of steps is allowed.

    Args:
        optimizer: The optimiser whose learning rate is set.
        lr: Highest learning rate.
        steps: Steps of the whole training.
        rise: Share of the steps in which the learning rate rises, 0 to 1.
    """
    if rise * steps == 1:  # torch divides by the number of steps after the first in which it rises
        rise *= 1 + 1e-9
    return OneCycleLR(optimizer, lr, steps, pct_start=rise, cycle_momentum=False)
