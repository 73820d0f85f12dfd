"""Conversion between pixels in [0, 1] and the 256 levels of uint8."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_LEVEL = 255


def to_unit_range(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1]; other images are returned unchanged."""
    return images.float() / LARGEST_LEVEL if images.dtype == torch.uint8 else images


def to_uint8(images: Tensor) -> Tensor:
    """Return images in [0, 1] as uint8, rounded to the nearest level; other values are clipped."""
    return (images.detach().clamp(0, 1) * LARGEST_LEVEL).round().byte()
