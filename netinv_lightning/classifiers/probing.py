"""What is tried on a network when it is loaded.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError

PROBED = 5
"""Random images on which a network is tried."""


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network inside of wrappers for several devices and of torch.compile, whose layers have their own names."""
    while True:
        if isinstance(network, (DataParallel, DistributedDataParallel)):
            network = network.module
        elif isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):
            network = inner
        else:
            return network


@torch.no_grad()
def takes_channels_last(network: nn.Module, x_BCHW: Tensor) -> bool:
    """Return whether the network works with weights and images in channels_last memory, where `view` fails."""
    kept = [
        (tensor, tensor.data)
        for tensor in (*network.parameters(), *network.buffers())
        if tensor.dim() == 4
    ]
    try:
        for tensor, data in kept:
            tensor.data = data.to(memory_format=torch.channels_last)
        network(x_BCHW.clone(memory_format=torch.channels_last))
    except Exception:
        return False
    finally:
        for tensor, data in kept:
            tensor.data = data
    return True


def check_normalisation(spec: DataSpec) -> None:
    """Refuse a mean or standard deviation that does not fit the channels.

    Raises:
        InputError: naming the key.
    """
    if not len(spec.mean) == len(spec.std) == spec.channels:
        raise InputError(
            f"classifier.mean={list(spec.mean)}, classifier.std={list(spec.std)}: must have {spec.channels} values each, one per channel"
        )
    if min(spec.std) <= 0:
        raise InputError(f"classifier.std={list(spec.std)}: must be above 0")


def random_images(spec: DataSpec, count: int) -> Tensor:
    """Return random images [B, C, H, W] in [0, 1] of several contrasts, always the same, without touching the global randomness."""
    shape = (count, spec.channels, spec.image_size, spec.image_size)
    x_BCHW = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    contrast_B111 = torch.linspace(0.2, 1, count).view(-1, 1, 1, 1)
    return x_BCHW * contrast_B111
