"""Shapes of a classifier's inputs: images, signals and tables.

A shape is the channels followed by the sides: (C, H, W) for images, (C, L) for signals, and (F,)
for tables, whose features are channels without a position. A size is one number for square images,
and the sides for everything else: 28, (32, 64), (128,) or ().

This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netinv_lightning.errors import InputError

Size = int | tuple[int, ...]
"""Side of square images; else the sides: (H, W), (L,) or ()."""

MODALITIES = ("tables", "signals", "images")
"""Kinds of inputs, by the number of their sides."""
SIDES = {"images": (8, 512), "signals": (8, 16_384)}
"""Smallest and largest side that is inverted."""
MOST_CHANNELS = 4096
"""Maximum number of channels of images and signals, and of features of tables."""


def sides_of(size: int | Sequence[int]) -> tuple[int, ...]:
    """Return the sides of a size."""
    return (size, size) if isinstance(size, int) else tuple(size)


def size_of(sides: Sequence[int]) -> Size:
    """Return the size with these sides; inverse of `sides_of`."""
    sides = tuple(sides)
    return sides[0] if len(sides) == 2 and sides[0] == sides[1] else sides


def modality_of(size: int | Sequence[int]) -> str:
    """Return `images`, `signals` or `tables`."""
    return MODALITIES[len(sides_of(size))]


def fault_of_size(size: Any) -> str:
    """Return what is wrong with the size of inputs to invert; empty if nothing is."""
    sides = sides_of(size)
    least, most = SIDES.get(modality := modality_of(sides), (1, 1))
    if all(least <= side <= most for side in sides):
        return ""
    unit = "pixels" if modality == "images" else "values"
    return f"the sides of {modality} must be from {least} to {most} {unit}"


def checked_shape(shape: Any, key: str) -> tuple[int, Size]:
    """Return the channels and the size of a shape: (features,), (C, L) or (C, H, W).

    Args:
        shape: The shape.
        key: The key that contains the shape, for messages.

    Raises:
        InputError: if it is not such a shape, or a side is out of range.
    """
    is_list = isinstance(shape, Sequence) and not isinstance(shape, str)
    listed = list(shape) if is_list else shape
    whole = is_list and all(type(side) is int and side >= 1 for side in listed)
    if not whole or not 1 <= len(listed) <= 3:
        raise InputError(
            f"{key}={listed}: must be the shape of one input in whole numbers: (features,) for "
            "tables, (C, L) for signals or (C, H, W) for images"
        )
    if listed[0] > MOST_CHANNELS:
        raise InputError(f"{key}={listed}: must have {MOST_CHANNELS} channels or fewer")
    if fault := fault_of_size(listed[1:]):
        raise InputError(f"{key}={listed}: {fault}")
    return listed[0], size_of(listed[1:])
