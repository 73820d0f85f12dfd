"""Where the images of a distillation come from: a memory of inverted images, or noise.

Each is asked for a batch by its number, which with the seed decides what it gives.

Shape suffixes: B batch, n images, C channels, H height, W width.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from netinv_lightning.data.specs import DataSpec
from netinv_lightning.downstream.distillation import Draw
from netinv_lightning.inversion.module import own_randomness
from netinv_lightning.training.snapshots import write_tensors

SEEDS_APART = 1_000_003  # between the streams of two seeds: no two of them share a batch


class Memory:
    """Keeps every image as uint8 on the CPU, and draws batches of them with replacement.

    An image is dear to make but cheap to show again, and a student that is shown only the newest forgets (Binici et al. 2022).

    Args:
        batch_size: B.
        seed: Of the draws.
        device: Where the batches are to be.
    """

    def __init__(self, batch_size: int, seed: int, device: torch.device) -> None:
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self._parts: list[Tensor] = []
        self._kept = 0  # images that `keep` has written

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    @property
    def images_nCHW(self) -> Tensor:
        """All images, uint8, in the order in which they came; one or more must have been added."""
        if len(self._parts) > 1:
            self._parts = [torch.cat(self._parts)]
        return self._parts[0]

    def add(self, x_BCHW: Tensor) -> None:
        """Keeps images in [0, 1], rounded to the 256 levels of a picture."""
        self._parts.append((x_BCHW.detach() * 255).round().byte().cpu())

    def keep(self, folder: Path) -> int:
        """Writes the images that came since the last call to a file of their own; returns how many there are in all."""
        if len(self) > self._kept:
            write_tensors(
                self.images_nCHW[self._kept :].clone(), folder / f"memory_{self._kept}.pt"
            )
            self._kept = len(self)
        return self._kept

    def restore(self, folder: Path, count: int) -> None:
        """Reads the first `count` images that `keep` wrote."""
        self._parts = []
        while len(self) < count:
            self._parts.append(torch.load(folder / f"memory_{len(self)}.pt", weights_only=True))
        self._kept = count

    def draw(self, number: int) -> Tensor:
        """Images [B, C, H, W] in [0, 1]; the seed, the batch's number and what is in memory decide them."""
        source = torch.Generator().manual_seed(SEEDS_APART * (self.seed + 1) + number)
        images_nCHW = self.images_nCHW
        return (
            images_nCHW[torch.randint(len(images_nCHW), (self.batch_size,), generator=source)]
            .to(self.device)
            .float()
            / 255
        )


def of_noise(spec: DataSpec, batch_size: int, seed: int, device: torch.device) -> Draw:
    """Pixels uniform in [0, 1]: the control that knows nothing of the classifier."""

    def draw(number: int) -> Tensor:
        with own_randomness(SEEDS_APART * (seed + 1) + number, device):
            return torch.rand(
                batch_size, spec.channels, spec.image_size, spec.image_size, device=device
            )

    return draw
