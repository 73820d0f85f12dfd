"""Conversion between [0, 1] and the 256 levels of uint8, or the units of signals and tables."""

from __future__ import annotations

import torch
from torch import Tensor

from netinv_lightning.data.specs import DataSpec

LARGEST_LEVEL = 255


def to_unit_range(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1]; other images are returned unchanged."""
    return images.float() / LARGEST_LEVEL if images.dtype == torch.uint8 else images


def to_uint8(images: Tensor) -> Tensor:
    """Return images in [0, 1] as uint8, rounded to the nearest level; other values are clipped."""
    return (images.detach().clamp(0, 1) * LARGEST_LEVEL).round().byte()


def from_units(x_n: Tensor, spec: DataSpec) -> Tensor:
    """Convert inputs [n, ...] from the units of the data to [0, 1], without clipping."""
    if spec.modality == "images":
        return to_unit_range(x_n)
    low, span = _range(x_n, spec)
    return (x_n - low) / span


def to_units(x_n: Tensor, spec: DataSpec) -> Tensor:
    """Convert inputs [n, ...] from [0, 1] to the units of the data; images are not changed."""
    if spec.modality == "images":
        return x_n
    low, span = _range(x_n, spec)
    return low + span * x_n


def _range(x_n: Tensor, spec: DataSpec) -> tuple[Tensor, Tensor]:
    """Return the lowest value of each channel and the distance to the highest, [C, ...]."""
    limits_C2 = x_n.new_tensor(spec.limits, dtype=torch.float32)
    low_C, high_C = limits_C2.reshape(spec.channels, *[1] * len(spec.sides), 2).unbind(dim=-1)
    return low_C, high_C - low_C
