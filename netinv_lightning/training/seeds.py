"""Derive seeds from the seed of a run, and draw without changing the global random state.

Shape suffixes: n items.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

STREAMS_APART = 1_000_003
"""Distance between the streams of consecutive seeds: two runs share no batch within that many
batches."""
EPOCHS_APART = 1009
"""Distance between consecutive seeds where one seed per epoch is needed."""


def stream_seed(seed: int, number: int) -> int:
    """Return the seed of batch or stream `number` of a run; it never equals the seed of a run below
    1,000,003."""
    return STREAMS_APART * (seed + 1) + number


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch of a run."""
    return EPOCHS_APART * seed + epoch


def random_order(n: int, seed: int) -> Tensor:
    """Return 0 to n - 1 in a random order, [n]."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed all random numbers inside; afterwards the global generators continue as if nothing was
    drawn."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
