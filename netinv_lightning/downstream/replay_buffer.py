"""Sources of the images of a distillation: a replay buffer of inverted images, or noise.

A batch depends only on its number, the seed and, for the buffer, the stored images.

Shape suffixes: B batch, n images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from netinv_lightning.data.noise import uniform_noise
from netinv_lightning.data.pixels import to_uint8, to_unit_range
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.downstream.distillation import DrawBatch
from netinv_lightning.training.seeds import stream_seed
from netinv_lightning.training.snapshots import write_tensors


class ReplayBuffer:
    """Stores all images as uint8 on the CPU, and draws batches with replacement.

    Images are expensive to generate but cheap to replay, and a student that is trained only on the
    newest images forgets the older ones (Binici et al. 2022, arXiv 2108.05698).

    Args:
        batch_size: B.
        seed: Seed of the draws.
        device: Device of the batches.
    """

    def __init__(self, batch_size: int, seed: int, device: torch.device) -> None:
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self._parts: list[Tensor] = []
        self._saved = 0  # number of images that `save` has written

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    @property
    def images_nCHW(self) -> Tensor:
        """All images, uint8, oldest first; there must be at least one."""
        if len(self._parts) > 1:
            self._parts = [torch.cat(self._parts)]
        return self._parts[0]

    def add(self, x_BCHW: Tensor) -> None:
        """Store images in [0, 1], rounded to 256 levels."""
        self._parts.append(to_uint8(x_BCHW).cpu())

    def save(self, folder: Path) -> int:
        """Write the images added since the last call to a file; return the number of all images."""
        if len(self) > self._saved:
            path = folder / f"memory_{self._saved}.pt"
            write_tensors(self.images_nCHW[self._saved :].clone(), path)
            self._saved = len(self)
        return self._saved

    def load(self, folder: Path, count: int, shape: Sequence[int]) -> None:
        """Read the first `count` images that `save` has written.

        Raises:
            ValueError: if a file does not contain uint8 images of this shape.
        """
        self._parts = []
        while len(self) < count:
            path = folder / f"memory_{len(self)}.pt"
            part = torch.load(path, weights_only=True)
            if part.dtype != torch.uint8 or tuple(part.shape[1:]) != tuple(shape) or not len(part):
                raise ValueError(
                    f"{path.name} contains {part.dtype} of shape {tuple(part.shape)}, not images "
                    f"of shape {tuple(shape)}"
                )
            self._parts.append(part)
        self._saved = count

    def draw(self, number: int) -> Tensor:
        """Return batch number `number`, [B, C, H, W] in [0, 1]."""
        source = torch.Generator().manual_seed(stream_seed(self.seed, number))
        images_nCHW = self.images_nCHW
        chosen_B = torch.randint(len(images_nCHW), (self.batch_size,), generator=source)
        return to_unit_range(images_nCHW[chosen_B].to(self.device))


def noise_batches(spec: DataSpec, batch_size: int, seed: int, device: torch.device) -> DrawBatch:
    """Return a source of images with uniform pixels in [0, 1]: the baseline without inversion."""

    def draw(number: int) -> Tensor:
        return uniform_noise(spec.shape, batch_size, stream_seed(seed, number), device)

    return draw
