"""Mean and variance of a layer's input per channel, in one pass, with their gradient in another.

Autograd through the definition copies the values to channels first, and keeps and reads several
arrays of their size. For the maps of a large network this takes longer than the network itself.

Shape suffixes: B batch, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class BatchMoments(torch.autograd.Function):
    """Mean m and variance v, [C], of values x [B, C, ...] on a CPU; differentiable once.

    With n values per channel: dm/dx = 1/n and dv/dx = 2 (x - m) / n.
    """

    @staticmethod
    def forward(ctx: Any, x_BC: Tensor) -> tuple[Tensor, Tensor]:
        mean_C, var_C = torch.batch_norm_update_stats(x_BC, None, None, 0.0)
        ctx.save_for_backward(x_BC, mean_C)
        return mean_C, var_C

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_mean_C: Tensor, of_var_C: Tensor) -> Tensor:
        x_BC, mean_C = ctx.saved_tensors
        n = x_BC.numel() // x_BC.shape[1]
        slope_C = 2 * of_var_C / n
        offset_C = of_mean_C / n - slope_C * mean_C
        shape = (1, -1, *[1] * (x_BC.dim() - 2))
        return torch.addcmul(offset_C.view(shape), x_BC, slope_C.view(shape))
