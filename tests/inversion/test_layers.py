"""Layers of the generator: a doubled side in one step equals a resize and a convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from netinv_lightning.inversion.generator_plan import Layer
from netinv_lightning.inversion.layers import Upsampling, doubling_kernel


def test_kernel_of_a_doubling_by_hand() -> None:
    weight_1133 = torch.arange(1.0, 10.0).view(1, 1, 3, 3)  # 1 2 3 / 4 5 6 / 7 8 9
    kernel_44 = doubling_kernel(weight_1133)[0, 0]
    # Flipped: 9 8 7 / 6 5 4 / 3 2 1. Each entry is the sum of a 2 x 2 square of it, padded.
    assert kernel_44.tolist() == [
        [9.0, 17.0, 15.0, 7.0],
        [15.0, 28.0, 24.0, 11.0],
        [9.0, 16.0, 12.0, 5.0],
        [3.0, 5.0, 3.0, 1.0],
    ]


@pytest.mark.parametrize("bias", [False, True])
def test_doubling_equals_resize_and_convolution_and_their_gradients(bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = Upsampling(3, Layer(5, (8, 12), (3, 3), padding=(1, 1)), (4, 6), bias).double()
    x_BCHW = torch.randn(2, 3, 4, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = layer[-1].weight
    plain_BDHW = F.conv2d(
        F.interpolate(x_BCHW, scale_factor=2, mode="nearest"), weight, layer[-1].bias, padding=1
    )
    made_BDHW = layer(x_BCHW)
    assert layer.doubles
    torch.testing.assert_close(made_BDHW, plain_BDHW)
    weights_BDHW = torch.randn(plain_BDHW.shape, generator=generator, dtype=torch.float64)
    for made, plain in zip(
        torch.autograd.grad((made_BDHW * weights_BDHW).sum(), (x_BCHW, weight)),
        torch.autograd.grad((plain_BDHW * weights_BDHW).sum(), (x_BCHW, weight)),
        strict=True,
    ):
        torch.testing.assert_close(made, plain)


@pytest.mark.parametrize(
    ("sides", "target", "transposed"),
    [((4, 4), (7, 8), False), ((4, 1), (8, 1), False), ((4, 4), (8, 8), True)],
)
def test_other_layers_do_not_double(
    sides: tuple[int, int], target: tuple[int, int], transposed: bool
) -> None:
    kernel = (3 if target[0] > 1 else 1, 3 if target[1] > 1 else 1)
    layer = (
        Layer(2, target, (4, 4), (2, 2), (1, 1), transposed=True)
        if transposed
        else Layer(2, target, kernel, padding=(kernel[0] // 2, kernel[1] // 2))
    )
    module = Upsampling(3, layer, sides, bias=True)
    assert not module.doubles
    assert module(torch.zeros(1, 3, *sides)).shape == (1, 2, *target)
