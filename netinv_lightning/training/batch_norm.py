"""BatchNorm over the batch of all processes; torch's SyncBatchNorm needs a GPU.

Shape suffixes: B batch, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from netinv_lightning.training.distributed import sum_over_ranks, world_size
from netinv_lightning.training.float32 import in_float32


def over_all_ranks(norm: _BatchNorm, x_BC: Tensor) -> Tensor:
    """Return what BatchNorm in training returns for the whole batch, for the share of this rank.

    The running statistics are updated with those of the whole batch.

    Args:
        norm: The layer.
        x_BC: Its input, [B, C, ...], of the same size on every rank.
    """
    y_BC, mean_C, var_C = _normalised(x_BC, norm.weight, norm.bias, norm.eps)
    if norm.running_mean is not None:
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        n = world_size() * x_BC.numel() // x_BC.shape[1]
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)
            momentum = norm.momentum
            if momentum is None:  # the mean of all batches so far
                momentum = 1 / int(norm.num_batches_tracked)
            norm.running_mean.lerp_(mean_C, momentum)
            norm.running_var.lerp_(var_C * n / (n - 1), momentum)
    return y_BC.to(x_BC.dtype)


@in_float32
def _normalised(
    x_BC: Tensor, weight_C: Tensor | None, bias_C: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise the channels over all ranks; return the result, and mean and variance [C]."""
    n = world_size() * x_BC.numel() // x_BC.shape[1]
    along, per_channel = (0, *range(2, x_BC.dim())), (-1, *[1] * (x_BC.dim() - 2))
    mean_C = sum_over_ranks(x_BC.sum(dim=along)) / n
    centred_BC = x_BC - mean_C.view(per_channel)
    var_C = sum_over_ranks(centred_BC.square().sum(dim=along)) / n
    scale_C = (var_C + eps).rsqrt()
    if weight_C is not None:
        scale_C = weight_C * scale_C
    y_BC = centred_BC * scale_C.view(per_channel)
    return y_BC if bias_C is None else y_BC + bias_C.view(per_channel), mean_C, var_C


@contextmanager
def batch_norm_over_ranks(network: nn.Module) -> Iterator[None]:
    """Context in which the BatchNorm layers of a network use the batch of all processes.

    It changes nothing in evaluation mode, or if there is one process.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.forward = partial(_forward, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _forward(norm: _BatchNorm, x_BC: Tensor) -> Tensor:
    if norm.training and world_size() > 1:
        return over_all_ranks(norm, x_BC)
    return type(norm).forward(norm, x_BC)
