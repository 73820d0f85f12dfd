"""Count the images that pass through a classifier: a machine-independent cost of an inversion.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class ForwardCount:
    """Counts the images in forward passes and in backward passes of a classifier.

    Copies of a classifier share one count. Counting needs no synchronisation with the device.
    """

    def __init__(self) -> None:
        self.forwards = 0
        self.backwards = 0

    def count(self, x_BCHW: Tensor) -> Tensor:
        """Return the images unchanged; count them now, and again in the backward pass.

        The gradient-norm term needs a second derivative. It counts as one forward and one backward
        pass, but costs about as much as three.
        """
        counted_BCHW: Tensor = _Count.apply(x_BCHW, self)
        return counted_BCHW

    def __deepcopy__(self, memo: dict[int, Any]) -> ForwardCount:
        return self


class _Count(torch.autograd.Function):
    """Identity that counts images; a hook would miss the batch dimension that `vmap` adds."""

    @staticmethod
    def forward(x_BCHW: Tensor, count: ForwardCount) -> Tensor:
        count.forwards += len(x_BCHW)
        return x_BCHW.view_as(x_BCHW)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ForwardCount], output: Tensor) -> None:
        ctx.count = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient_BCHW: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        ctx.count.backwards += len(gradient_BCHW)
        return gradient_BCHW, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, None], x: Tensor, count: ForwardCount
    ) -> tuple[Tensor, int]:
        assert in_dims[0] is not None
        rows = x.movedim(in_dims[0], 0)
        return count.count(rows.flatten(0, 1)).view_as(rows), 0


@contextmanager
def uncounted(network: nn.Module) -> Iterator[None]:
    """Context in which passes of a classifier are not counted; no effect on other networks."""
    count = getattr(network, "forward_count", None)
    counts = (count.forwards, count.backwards) if isinstance(count, ForwardCount) else None
    try:
        yield
    finally:
        if isinstance(count, ForwardCount) and counts is not None:
            count.forwards, count.backwards = counts
