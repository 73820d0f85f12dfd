"""Random numbers that a test chooses."""

from __future__ import annotations

import torch
from torch import Tensor

from netinv_lightning.training.distributed import Stream


class Fixed(Stream):
    """Stream whose uniform draws all equal one number."""

    def __init__(self, value: float) -> None:
        super().__init__(0)
        self.value = value

    def uniform(self, batch: int, *shape: int) -> Tensor:
        return torch.full((batch, *shape), self.value)
