"""Noise images in [0, 1], determined by their seed.

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

NOISE_STD = 0.25
"""Standard deviation of Gaussian noise: [0, 1] reaches two standard deviations from the mean."""
WIDE_STD = 0.5
"""Standard deviation of the Gaussian half of mixed noise."""


def uniform_noise(
    shape: Sequence[int], count: int, seed: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Return images with pixels of U[0, 1], [count, *shape]."""
    return torch.rand(count, *shape, generator=_source(seed, device), device=device)


def gaussian_noise(shape: Sequence[int], count: int, seed: int) -> Tensor:
    """Return images with pixels of N(0.5, 0.25^2), clipped to [0, 1]."""
    return _gaussian(shape, count, NOISE_STD, _source(seed))


def mixed_noise(shape: Sequence[int], count: int, seed: int) -> Tensor:
    """Return images of which half are uniform and half are N(0.5, 0.5^2), clipped to [0, 1]."""
    source = _source(seed)
    uniform_nCHW = torch.rand(count - count // 2, *shape, generator=source)
    return torch.cat([uniform_nCHW, _gaussian(shape, count // 2, WIDE_STD, source)])


def _gaussian(shape: Sequence[int], count: int, std: float, source: torch.Generator) -> Tensor:
    return (0.5 + std * torch.randn(count, *shape, generator=source)).clamp(0, 1)


def _source(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)
