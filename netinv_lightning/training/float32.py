"""Computations in float32 under mixed precision: losses, norms, statistics and second derivatives.

Autocast is used for the forward passes of networks only. Everything that is computed from their
outputs uses this module.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

HALF = (torch.bfloat16, torch.float16)

P = ParamSpec("P")
R = TypeVar("R")


def widened(x: Tensor) -> Tensor:
    """Return a half-precision tensor as float32, and any other tensor unchanged."""
    return x.float() if x.dtype in HALF else x


def autocast_off(device: torch.device) -> torch.autocast:
    """Return the context in which autocast is off on `device`."""
    return torch.autocast(device.type, enabled=False)


def in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function without autocast and with its half-precision tensor arguments as float32.

    At least one argument must be a tensor; autocast is switched off for its device. Tensors inside
    lists, mappings or modules are passed unchanged.
    """

    @wraps(function)
    def wide(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(
            value.device for value in (*args, *kwargs.values()) if isinstance(value, Tensor)
        )
        with autocast_off(device):
            return function(
                *map(_widened, args), **{key: _widened(value) for key, value in kwargs.items()}
            )

    return wide


def _widened(value: Any) -> Any:
    return widened(value) if isinstance(value, Tensor) else value
