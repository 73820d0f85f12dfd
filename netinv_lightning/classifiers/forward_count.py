"""How many images went through a classifier: what an inversion costs, on whatever machine.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Passes:
    """Images passed forward, and images whose gradient was passed backward.

    Copies of a classifier count into the same place. Counting takes nothing off the device.
    """

    def __init__(self) -> None:
        self.forwards = 0
        self.backwards = 0

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
        passes.forwards += len(x_BCHW)
        return x_BCHW.view_as(x_BCHW)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Passes], output: Tensor) -> None:
        ctx.passes = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient_BCHW: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        ctx.passes.backwards += len(gradient_BCHW)
        return gradient_BCHW, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, None], x: Tensor, passes: Passes
    ) -> tuple[Tensor, int]:
        assert in_dims[0] is not None
        rows = x.movedim(in_dims[0], 0)
        return passes.count(rows.flatten(0, 1)).view_as(rows), 0


@contextmanager
def uncounted(network: nn.Module) -> Iterator[None]:
    """Leave the counts of a classifier as they were; a trial costs an inversion nothing. Other networks count nothing."""
    passes = getattr(network, "passes", None)
    counts = (passes.forwards, passes.backwards) if isinstance(passes, Passes) else None
    try:
        yield
    finally:
        if isinstance(passes, Passes) and counts is not None:
            passes.forwards, passes.backwards = counts
