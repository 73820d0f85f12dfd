"""Batches of images, in order or shuffled; a resumed training continues within an epoch.

Shape suffixes: B batch, n images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from netinv_lightning.data.datasets import Split
from netinv_lightning.data.images_on_disk import loaded
from netinv_lightning.training.snapshots import random_state, set_random_state

Share = tuple[int, int]
"""The share of each batch that a process gets: its rank, and the number of processes."""
WHOLE: Share = (0, 1)


class Batches:
    """Iterate over images in memory or on disk; one index tensor per batch selects them.

    Args:
        split: Images and labels.
        batch_size: Images per batch, over all processes.
        shuffle: Whether each epoch has a new order, from the global random numbers.
        drop_last: Leave out the last batch if it is smaller than the others.
        share: The share of this process: every R-th image of each batch, for R processes. With
            fewer images than processes, every process gets all images.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        shuffle: bool,
        drop_last: bool = False,
        share: Share = WHOLE,
    ) -> None:
        self.images_nCHW, self.labels_n = split
        self.batch_size, self.shuffle, self.drop_last = batch_size, shuffle, drop_last
        self.rank, self.ranks = share if len(self.labels_n) >= share[1] else WHOLE

    def __len__(self) -> int:
        n = len(self.labels_n)
        return (
            n // self.batch_size
            if self.drop_last and n >= self.batch_size
            else -(-n // self.batch_size)
        )

    def __iter__(self) -> Iterator[Split]:
        n = len(self.labels_n)
        order_n = torch.randperm(n) if self.shuffle else torch.arange(n)
        for indices_B in order_n.split(self.batch_size)[: len(self)]:
            if len(own_B := indices_B[self.rank :: self.ranks]):
                yield self._read(own_B)

    def _read(self, indices_B: Tensor) -> Split:
        return loaded(self.images_nCHW[indices_B]), self.labels_n[indices_B]


class TrainingBatches(Batches):
    """Training batches, shuffled in every epoch; a resumed training continues within an epoch.

    Args:
        split: Images and labels.
        batch_size: Images per batch, over all processes; a multiple of their number.
        state: What `state` returned for the training that is resumed; None for a new one.
        share: As for `Batches`.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        state: dict[str, Any] | None = None,
        share: Share = WHOLE,
    ) -> None:
        super().__init__(split, batch_size, shuffle=True, drop_last=True, share=share)
        self._earlier, self._order_n, self._taken = state, torch.empty(0, dtype=torch.long), 0

    def __iter__(self) -> Iterator[Split]:
        earlier, self._earlier, self._taken = self._earlier, None, 0
        if earlier is not None:
            set_random_state(earlier["random"])
        if earlier is not None and len(earlier["order"]):
            self._order_n, self._taken = earlier["order"], earlier["taken"]
        else:
            self._order_n = torch.randperm(len(self.labels_n))
        for indices_B in self._order_n.split(self.batch_size)[self._taken : len(self)]:
            self._taken += 1
            yield self._read(indices_B[self.rank :: self.ranks])

    def state(self, epoch_is_over: bool) -> dict[str, Any]:
        """Return the order of the epoch, the number of batches taken, and the random state."""
        order_n = self._order_n[:0] if epoch_is_over else self._order_n
        return {
            "order": order_n,
            "taken": 0 if epoch_is_over else self._taken,
            "random": random_state(),
        }
