"""Mean and variance of each channel, with one pass over memory in each direction of autograd.

A prior that compares the inputs of all BatchNorm layers with their running statistics reads every
map of the classifier. Written with tensor operations (subtract, square, sum) this takes longer than
the classifier itself; torch's own kernel for the statistics of BatchNorm takes about a fifth of it.

Shape suffixes: B batch, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from netinv_lightning.training.distributed import sum_over_ranks, world_size

HAVE_KERNEL = ("cpu", "cuda")


def moments(x_BC: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance [C] of values [B, C, ...] per channel, over all ranks.

    The variance is divided by the number of values. Each rank must hold the same number.
    """
    mean_C, var_C = moments_of_share(x_BC)
    if (ranks := world_size()) == 1:
        return mean_C, var_C
    all_C = sum_over_ranks(mean_C) / ranks
    return all_C, sum_over_ranks(var_C + (mean_C - all_C).square()) / ranks


def moments_of_share(x_BC: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance [C] of the values of this rank."""
    moments_2C: tuple[Tensor, Tensor] = _Moments.apply(x_BC)
    return moments_2C


class _Moments(torch.autograd.Function):
    """Mean and variance of each channel; differentiable twice."""

    @staticmethod
    def forward(ctx: Any, x_BC: Tensor) -> tuple[Tensor, Tensor]:
        if x_BC.device.type in HAVE_KERNEL:
            mean_C, var_C = torch.batch_norm_update_stats(x_BC, None, None, 0.0)
        else:
            over = [dim for dim in range(x_BC.dim()) if dim != 1]
            var_C, mean_C = torch.var_mean(x_BC, over, correction=0)
        ctx.save_for_backward(x_BC, mean_C)
        return mean_C, var_C

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # d mean / dx = 1 / n, d var / dx = 2 (x - mean) / n: one product and sum per value.
        x_BC, mean_C = ctx.saved_tensors
        of_mean_C, of_var_C = gradients
        n = x_BC.numel() // x_BC.shape[1]
        slope_C = 2 / n * of_var_C
        shape = [-1, *[1] * (x_BC.dim() - 2)]
        constant_C = of_mean_C / n - slope_C * mean_C
        return torch.addcmul(constant_C.view(shape), x_BC, slope_C.view(shape))
