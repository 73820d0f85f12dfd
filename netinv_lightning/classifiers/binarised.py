"""Binarised fully connected network: bits as inputs, signs as activations, weights of +1 and -1.

    pixel -> bit s = +1 or -1 -> z = sum_i w_i s_i + t -> sign(z) -> ... -> logits, also integers

Weights w_i are +1 or -1, and the threshold t is an integer. The logits are divided by a constant.

Courbariaux et al. (2016, arXiv 1602.02830) train such networks with the straight-through estimator:
the backward pass replaces the derivative of sign(z), which is 0, by that of a clipped identity.
Here the thresholds are trained too, in the place of BatchNorm, so that no float remains between the
input bits and the logits. `integer_layers` returns the exact integer form.

Shape suffixes: B batch, C channels, H height, W width, N classes, D features, I inputs and O
outputs of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from netinv_lightning.config.shapes import sides_of


class _Sign(torch.autograd.Function):
    """+1 for z >= 0, else -1. The gradient passes where |z| is at most `window`."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, window: float) -> Tensor:
        ctx.save_for_backward(z)
        ctx.window = window
        return torch.where(z >= 0, 1.0, -1.0).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (z,) = ctx.saved_tensors
        return gradient * (z.abs() <= ctx.window), None


def sign(z: Tensor, window: float = math.inf) -> Tensor:
    """Return +1 for z >= 0, else -1, with the straight-through gradient where |z| <= window."""
    signed: Tensor = _Sign.apply(z, window)
    return signed


class BinaryWeights(nn.Module):
    """Signs of trained real numbers."""

    def forward(self, weight_OI: Tensor) -> Tensor:
        return sign(weight_OI)


class IntegerThresholds(nn.Module):
    """Trained real numbers, rounded; the gradient passes unchanged."""

    def forward(self, bias_O: Tensor) -> Tensor:
        return bias_O + (bias_O.round() - bias_O).detach()


def binarised_linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a fully connected layer with weights of +1 and -1 and integer thresholds."""
    layer = nn.Linear(inputs, outputs)
    nn.init.uniform_(layer.weight, -1, 1)
    nn.init.zeros_(layer.bias)
    register_parametrization(layer, "weight", BinaryWeights())
    register_parametrization(layer, "bias", IntegerThresholds())
    return layer


class BinarisedMLP(nn.Module):
    """Fully connected layers with binary inputs, weights and activations and integer thresholds.

    `method=sat` inverts it exactly. Gradients are those of the straight-through estimator, so that
    the other methods can invert it too.

    Args:
        num_classes: N.
        channels: Channels of the images.
        image_size: Side of square images in pixels; else the sides of any input.
        widths: Width of each hidden layer.
        threshold: A pixel is +1 if it is at least this value, in standard deviations above the mean
            training pixel; else it is -1.
        window: The gradient passes a neuron whose pre-activation, divided by the root of its number
            of inputs, is between plus and minus this value.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        image_size: int | Sequence[int],
        widths: Sequence[int] = (32,),
        threshold: float = 0.0,
        window: float = 1.0,
    ) -> None:
        super().__init__()
        if not window > 0:
            raise ValueError(f"window={window}: must be above 0")
        self.threshold, self.window = threshold, window
        sizes = [channels * math.prod(sides_of(image_size)), *widths, num_classes]
        layers = [binarised_linear(*pair) for pair in pairwise(sizes)]
        self.hidden, self.head = nn.ModuleList(layers[:-1]), layers[-1]

    def bits(self, x_BCHW: Tensor) -> Tensor:
        """Return +1 for the bright pixels of normalised images and -1 for the others, [B, I]."""
        return sign(x_BCHW.flatten(1) - self.threshold)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        # Sums of many bits are integers that only float32 represents exactly.
        with torch.autocast(x_BCHW.device.type, enabled=False):
            f_BD = self.bits(x_BCHW)
            for layer in self.hidden:
                f_BD = sign(layer(f_BD) / math.sqrt(f_BD.shape[1]), self.window)
            logits_BN: Tensor = self.head(f_BD) / math.sqrt(f_BD.shape[1])
            return logits_BN


@dataclass(frozen=True)
class IntegerLayer:
    """One layer of the exact integer form: z = weight @ s + bias, then the sign, +1 for z >= 0.

    Attributes:
        weight_OI: +1 and -1, int64.
        bias_O: int64.
    """

    weight_OI: Tensor
    bias_O: Tensor


@torch.no_grad()
def integer_layers(network: BinarisedMLP) -> list[IntegerLayer]:
    """Return all layers as integers, from the input bits to the logits, which have no sign."""
    return [
        IntegerLayer(layer.weight.cpu().long(), layer.bias.cpu().long())
        for layer in (*network.hidden, network.head)
    ]


def integer_logits(layers: Sequence[IntegerLayer], bits_BI: Tensor) -> Tensor:
    """Return the logits [B, N] of bits of +1 and -1 as int64, exactly.

    Products are computed in float64, which is fast and represents all these integers.

    They are those of `BinarisedMLP` times the root of the number of its features. If several
    classes have the largest logit, the prediction is the first of them, as for `torch.argmax`.
    """
    s_BI = bits_BI.cpu().double()
    for layer in layers[:-1]:
        s_BI = sign(s_BI @ layer.weight_OI.double().T + layer.bias_O)
    return (s_BI @ layers[-1].weight_OI.double().T).long() + layers[-1].bias_O
