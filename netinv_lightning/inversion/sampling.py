"""Set the mode in which a trained generator draws samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.layers import BatchNorm, ChannelDropout


@contextmanager
def sampling_mode(generator: Generator, dropout: bool, batch_norm: str) -> Iterator[None]:
    """Context in which a generator is in evaluation mode; its buffers and streams do not change.

    Args:
        generator: The generator.
        dropout: Keep dropout on.
        batch_norm: Statistics of BatchNorm: `running` or `batch`.
    """
    modes = {module: module.training for module in generator.modules()}
    dropouts = [(module, module.stream) for module in modes if isinstance(module, ChannelDropout)]
    norms = [
        (module, module.momentum, module.num_batches_tracked)
        for module in modes
        if isinstance(module, BatchNorm)
    ]
    generator.eval()
    for drop, _ in dropouts:
        drop.train(dropout)
        drop.stream = None
    for norm, _, count in norms:
        norm.train(batch_norm == "batch")
        norm.momentum, norm.over_ranks = 0.0, False
        norm.num_batches_tracked = None if count is None else count.clone()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for drop, stream in dropouts:
            drop.stream = stream
        for norm, momentum, count in norms:
            norm.momentum, norm.over_ranks, norm.num_batches_tracked = momentum, True, count
