"""Where the images of a distillation come from: a run's generators, the images that a run kept, or noise.

Each is asked for a batch by its number, which with the seed decides what it gives.

Shape suffixes: B batch, n images, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from netinv_lightning.data.spec import DataSpec
from netinv_lightning.inversion.evaluation import Inverter, draw_batch
from netinv_lightning.inversion.module import own_randomness
from netinv_lightning.inverted_data.distillation import Draw

SEEDS_APART = 1_000_003  # between the streams of two seeds: no two of them share a batch


def of_generators(module: Inverter, batch_size: int, seed: int) -> Draw:
    """Images that the generators make anew for every batch, in turn."""
    G = len(module.generators)

    def draw(number: int) -> Tensor:
        return draw_batch(module, number % G, number, batch_size, seed)[1]

    return draw


def of_images(images_nCHW: Tensor, batch_size: int, seed: int, device: torch.device) -> Draw:
    """Images of a fixed set, chosen anew for every batch."""

    def draw(number: int) -> Tensor:
        source = torch.Generator().manual_seed(SEEDS_APART * (seed + 1) + number)
        return images_nCHW[torch.randint(len(images_nCHW), (batch_size,), generator=source)].to(device)

    return draw


def of_noise(spec: DataSpec, batch_size: int, seed: int, device: torch.device) -> Draw:
    """Pixels uniform in [0, 1]: the control that knows nothing of the classifier."""

    def draw(number: int) -> Tensor:
        with own_randomness(SEEDS_APART * (seed + 1) + number, device):
            return torch.rand(batch_size, spec.channels, spec.image_size, spec.image_size, device=device)

    return draw
