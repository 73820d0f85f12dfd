"""Conversion between pixels in [0, 1] and uint8."""

from __future__ import annotations

import torch

from netinv_lightning.data.pixels import to_uint8, to_unit_range

LEVELS_256 = torch.arange(256, dtype=torch.uint8)


def test_all_levels_are_preserved_by_the_round_trip() -> None:
    unit_256 = to_unit_range(LEVELS_256)
    assert unit_256.dtype == torch.float32
    assert (float(unit_256.min()), float(unit_256.max())) == (0.0, 1.0)
    assert torch.equal(to_uint8(unit_256), LEVELS_256)


def test_pixels_are_rounded_to_the_nearest_level_and_clipped() -> None:
    assert to_uint8(torch.tensor([-0.5, 0.4 / 255, 0.6 / 255, 1.5])).tolist() == [0, 0, 1, 255]


def test_pixels_in_the_unit_range_are_returned_unchanged() -> None:
    pixels = torch.rand(3, dtype=torch.float64)
    assert to_unit_range(pixels) is pixels
