"""How many images went through a classifier: what an inversion costs, on whatever machine.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor


class Passes:
    """Images passed forward, and images whose gradient was passed backward.

    Copies of a classifier count into the same place. Counting takes nothing off the device.
    """

    def __init__(self) -> None:
        self._of_thread: dict[int, list[int]] = {}  # each thread writes into its own entry, so none needs a lock

    @property
    def forwards(self) -> int:
        return sum(forwards for forwards, _ in self._of_thread.values())

    @property
    def backwards(self) -> int:
        return sum(backwards for _, backwards in self._of_thread.values())

    def add(self, forwards: int = 0, backwards: int = 0) -> None:
        counts = self._of_thread.setdefault(threading.get_ident(), [0, 0])
        counts[0] += forwards
        counts[1] += backwards

    def count(self, x_BCHW: Tensor) -> Tensor:
        """The images as they are, counted here, and once more when their gradient comes back.

        The gradient-norm term, a second derivative, counts as one pass forward and one backward, and costs about three.
        """
        counted_BCHW: Tensor = _Count.apply(x_BCHW, self)
        return counted_BCHW

    def __deepcopy__(self, memo: dict[int, Any]) -> Passes:
        return self


class _Count(torch.autograd.Function):
    """The identity. Not a hook: hooks see neither `vmap` nor how many images it runs over."""

    @staticmethod
    def forward(x_BCHW: Tensor, passes: Passes) -> Tensor:
        passes.add(forwards=len(x_BCHW))
        return x_BCHW.view_as(x_BCHW)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Passes], output: Tensor) -> None:
        ctx.passes = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient_BCHW: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        ctx.passes.add(backwards=len(gradient_BCHW))
        return gradient_BCHW, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, None], x: Tensor, passes: Passes) -> tuple[Tensor, int]:
        assert in_dims[0] is not None
        rows = x.movedim(in_dims[0], 0)
        return passes.count(rows.flatten(0, 1)).view_as(rows), 0
