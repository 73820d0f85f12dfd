"""Layers of the generator: up-sampling, dropout of channels, BatchNorm over all processes.

All inputs are maps [B, C, H, W]. Signals are maps with one column, and tables are maps with one
cell. A convolution along a signal, or a fully connected layer, is therefore the same layer with a
smaller kernel.

Shape suffixes: B batch, C channels (D of the output), H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netinv_lightning.inversion.generator_plan import Layer, Sides
from netinv_lightning.training.batch_norm import over_all_ranks
from netinv_lightning.training.distributed import Stream, world_size


class Upsampling(nn.Sequential):
    """One layer of up-sampling.

    It is a transposed convolution, as in the papers, or a resize to the nearest pixel and a
    convolution, which avoids checkerboard artefacts (Odena, Dumoulin and Olah 2016,
    distill.00003). It needs no bias before BatchNorm, which removes any constant.

    Args:
        channels_in: Channels of the input.
        layer: The layer.
        sides: Sides of the input.
        bias: Whether the convolution has a bias.
    """

    def __init__(self, channels_in: int, layer: Layer, sides: Sides, bias: bool) -> None:
        arguments = (channels_in, layer.channels, layer.kernel, layer.stride, layer.padding)
        if layer.transposed:
            super().__init__(nn.ConvTranspose2d(*arguments, bias=bias))
        else:
            resize = [] if layer.sides == sides else [nn.Upsample(size=layer.sides, mode="nearest")]
            super().__init__(*resize, nn.Conv2d(*arguments, bias=bias))
        doubled = (2 * sides[0], 2 * sides[1])
        self.doubles = not layer.transposed and layer.kernel == (3, 3) and layer.sides == doubled

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if not self.doubles:
            y_BCHW: Tensor = super().forward(x_BCHW)
            return y_BCHW
        convolution = self[-1]
        assert isinstance(convolution, nn.Conv2d)
        return F.conv_transpose2d(
            x_BCHW, doubling_kernel(convolution.weight), convolution.bias, stride=2, padding=1
        )


def doubling_kernel(weight_DC33: Tensor) -> Tensor:
    """Return the kernel [C, D, 4, 4] that doubles the sides and convolves in one step.

    It is the kernel of a transposed convolution of stride 2 and padding 1. Its weights are sums of
    up to four weights of the 3 x 3 kernel, because the resize repeats each pixel 2 x 2 times. The
    result equals a resize to the nearest pixel and the convolution, except for rounding, with 4
    instead of 9 products per value.
    """
    padded_DC55 = F.pad(weight_DC33.flip(2, 3), (1, 1, 1, 1))
    rows_DC45 = padded_DC55[:, :, :-1] + padded_DC55[:, :, 1:]
    return (rows_DC45[..., :-1] + rows_DC45[..., 1:]).transpose(0, 1)


class ChannelDropout(nn.Module):
    """Drops whole channels as nn.Dropout2d does, with random numbers of the generator's own stream.

    Args:
        p: Probability of dropping a channel.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.stream: Stream | None = None  # None: torch's global random state

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if not self.training:
            return x_BCHW
        B, C = x_BCHW.shape[:2]
        draw_BC = (
            torch.rand(B, C, device=x_BCHW.device)
            if self.stream is None
            else self.stream.uniform(B, C)
        )
        kept_BC = (draw_BC >= self.p).to(x_BCHW.dtype) / (1 - self.p)
        return x_BCHW * kept_BC[:, :, None, None]


class BatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d over the batch of all ranks; torch's SyncBatchNorm needs a GPU."""

    over_ranks = True  # False while a single rank draws samples

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.training and self.over_ranks and world_size() > 1:
            return over_all_ranks(self, x_BCHW)
        return super().forward(x_BCHW)
