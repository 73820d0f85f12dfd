"""Augmentation of a batch on its device: each image gets its own random shift and flip.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.data.batches import WHOLE, Share


def shift_and_flip(
    x_BCHW: Tensor,
    shift: int,
    flip: bool,
    generator: torch.Generator | None = None,
    share: Share = WHOLE,
) -> Tensor:
    """Shift each image by up to `shift` pixels, with reflected borders; mirror half of them.

    Args:
        x_BCHW: The images.
        shift: Largest shift.
        flip: Whether to mirror half of the images.
        generator: Source of randomness; None for the global one.
        share: The share of a batch that the images are; the random numbers are those of the batch.
    """
    if shift == 0 and not flip:
        return x_BCHW
    B, _, H, W = x_BCHW.shape
    padded_BHWC = F.pad(x_BCHW, (shift,) * 4, mode="reflect").permute(0, 2, 3, 1)

    def draw(high: int) -> Tensor:
        rank, ranks = share
        draw_R1 = torch.randint(high, (B * ranks, 1), device=x_BCHW.device, generator=generator)
        return draw_R1[rank::ranks]

    rows_BH = torch.arange(H, device=x_BCHW.device) + draw(2 * shift + 1)
    columns_W = torch.arange(W, device=x_BCHW.device)
    mirrored_B1 = (
        draw(2).bool() if flip else torch.zeros(B, 1, dtype=torch.bool, device=x_BCHW.device)
    )
    columns_BW = torch.where(mirrored_B1, columns_W.flip(0), columns_W) + draw(2 * shift + 1)
    images_B = torch.arange(B, device=x_BCHW.device)
    return padded_BHWC[
        images_B[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :]
    ].permute(0, 3, 1, 2)
