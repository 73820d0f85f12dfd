"""Images of outliers take the shape of the classifier's images."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from netinv_lightning.data.datasets import mnist5k
from netinv_lightning.data.outliers import in_shape_of, outliers
from netinv_lightning.data.specs import CIFAR10, MNIST


def test_images_take_the_shape_of_the_classifiers_data() -> None:
    digits = outliers("mnist5k", CIFAR10, 50, 0, Path())
    assert digits.shape == (50, 3, 32, 32)
    assert torch.equal(digits[:, 0], digits[:, 2])
    assert 0 <= digits.min() < digits.max() <= 1
    own = outliers("mnist5k", MNIST, 50, 0, Path())
    assert digits.mean() == pytest.approx(
        float(own.mean()), abs=2e-3
    )  # resampling keeps the brightness
    real = mnist5k(Path(), False)[0].float() / 255
    # These are test images, unchanged where the shape is the same.
    assert all((real == image).flatten(1).all(dim=1).any() for image in own[:5])


def gray(*rows: list[float]) -> Tensor:
    return torch.tensor(rows)[None, None]


def test_luminance_of_pure_colours() -> None:
    pure = torch.eye(3)[:, :, None, None].expand(-1, -1, 28, 28)
    assert in_shape_of(MNIST, pure)[:, 0, 0, 0].tolist() == pytest.approx(
        [0.299, 0.587, 0.114], abs=1e-3
    )


def test_gray_becomes_three_equal_channels_and_back() -> None:
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    rgb = in_shape_of(replace(MNIST, channels=3), images)
    assert torch.equal(rgb, images.expand(-1, 3, -1, -1))
    assert torch.allclose(
        in_shape_of(MNIST, rgb), images, atol=2e-4
    )  # the published weights add to 0.9999


def test_images_of_the_right_shape_are_unchanged() -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(in_shape_of(CIFAR10, images), images)


def test_a_smaller_image_is_interpolated() -> None:
    spec = replace(MNIST, image_size=4)
    # Pixel centres are at 1/4 and 3/4 of the side; values are constant beyond them.
    enlarged = in_shape_of(spec, gray([0.0, 1.0], [0.0, 1.0]))
    assert enlarged[0, 0, 0].tolist() == pytest.approx([0.0, 0.25, 0.75, 1.0])
    assert torch.equal(enlarged[0, 0], enlarged[0, 0, :1].expand(4, -1))


def test_a_larger_image_is_averaged_instead_of_subsampled() -> None:
    """Without antialiasing, a fine checkerboard would become black, white or coarse bars."""
    board = (torch.arange(112)[:, None] + torch.arange(112)) % 2
    reduced = in_shape_of(MNIST, board[None, None].float())
    assert (reduced - 0.5).abs().max() < 0.02


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_single_pixel_becomes_a_constant_image(value: float) -> None:
    assert torch.equal(
        in_shape_of(CIFAR10, torch.full((2, 1, 1, 1), value)), torch.full((2, 3, 32, 32), value)
    )


@pytest.mark.parametrize(
    ("height", "width", "top", "left"), [(28, 40, 0, 6), (41, 28, 6, 0), (28, 29, 0, 0)]
)
def test_images_that_are_not_square_are_centre_cropped(
    height: int, width: int, top: int, left: int
) -> None:
    images = torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(0))
    assert torch.equal(in_shape_of(MNIST, images), images[:, :, top : top + 28, left : left + 28])


@pytest.mark.parametrize(("height", "width"), [(50, 30), (16, 20)])
def test_a_circle_stays_round(height: int, width: int) -> None:
    y, x = torch.meshgrid(
        torch.arange(height) - (height - 1) / 2,
        torch.arange(width) - (width - 1) / 2,
        indexing="ij",
    )
    round_ = in_shape_of(MNIST, ((y**2 + x**2).sqrt() < 5)[None, None].float())[0, 0]
    assert torch.allclose(round_, round_.T, atol=1e-5)
    # Nothing is cut off.
    assert round_.mean() == pytest.approx(math.pi * 25 / min(height, width) ** 2, rel=0.05)
