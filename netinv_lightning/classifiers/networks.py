"""The networks that the project trains: the papers' CNN, MLP, ResNet, ViT, strided CNN; all small.

All take normalised images x_BCHW and return logits_BN. `SignalFCN` takes signals x_BCL; the MLP
and the binarised MLP take inputs of any shape.

Shape suffixes: B batch, C channels, H height, W width, L length, N classes, D features, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.binarised import BinarisedMLP
from netinv_lightning.classifiers.strided_cnn import StridedCNN
from netinv_lightning.classifiers.transformer_blocks import TransformerBlock
from netinv_lightning.config.shapes import sides_of

__all__ = ["CNN", "MLP", "BinarisedMLP", "ResNet", "SignalFCN", "StridedCNN", "ViT"]


def conv_block(
    channels_in: int,
    channels_out: int,
    slope: float,
    stride: int = 1,
    batch_norm: bool = True,
    bias: bool = False,
) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=bias)
    return nn.Sequential(
        convolution, *([nn.BatchNorm2d(channels_out)] if batch_norm else []), nn.LeakyReLU(slope)
    )


class CNN(nn.Module):
    """The papers' classifier: convolutions with BatchNorm and LeakyReLU, then two linear layers.

    Source: "Network Inversion and Its Applications", section 4.

    Args:
        num_classes: N.
        channels: Channels of the images.
        image_size: Side of square images in pixels, or (height, width).
        stages: Channels of the convolutions; a pooling that halves the side follows each list.
        hidden: Width of the fully connected layer, whose output is the penultimate feature.
        pool: `max` or `avg`.
        dropout: Probability of dropout before each fully connected layer.
        slope: Negative slope of LeakyReLU.
        batch_norm: False for a homogeneous network, as in `MLP`.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        image_size: int | Sequence[int],
        stages: Sequence[Sequence[int]] = ((32,), (64, 64), (128, 128)),
        hidden: int = 128,
        pool: str = "max",
        dropout: float = 0.1,
        slope: float = 0.1,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        pools = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}
        if pool not in pools:
            raise ValueError(f"pool={pool}: choose max or avg")
        H, W = sides_of(image_size)
        if min(H, W) < 2 ** len(stages):
            raise ValueError(
                f"stages={stages}: {len(stages)} poolings leave nothing of a {H} x {W} image"
            )
        pixels_left = (H >> len(stages)) * (W >> len(stages))
        layers: list[nn.Module] = []
        width = channels
        for stage in stages:
            for width_out in stage:
                layers.append(
                    conv_block(
                        width,
                        width_out,
                        slope,
                        batch_norm=batch_norm,
                        bias=not batch_norm and not layers,
                    )
                )
                width = width_out
            layers.append(pools[pool](2))
        self.convolutions = nn.Sequential(*layers)
        self.fully_connected = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(width * pixels_left, hidden, bias=False),
            *([nn.BatchNorm1d(hidden)] if batch_norm else []),
            nn.LeakyReLU(slope),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(hidden, num_classes, bias=batch_norm)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        f_BD = self.fully_connected(self.convolutions(x_BCHW))
        return self.head(f_BD)


class MLP(nn.Module):
    """Fully connected layers only; each pixel has its own weights.

    Args:
        num_classes: N.
        channels: Channels of the images.
        image_size: Side of square images in pixels; else the sides of any input.
        widths: Width of each hidden layer.
        dropout: Probability of dropout after each hidden layer.
        slope: Negative slope of LeakyReLU.
        batch_norm: False for a homogeneous network, which reconstruction from weights requires
            (Haim et al. 2022, arXiv 2206.07758): no BatchNorm, and a bias in the first layer only.
            Logits then scale with the L-th power of the weights of L layers.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        image_size: int | Sequence[int],
        widths: Sequence[int] = (256, 128),
        dropout: float = 0.1,
        slope: float = 0.1,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        width = channels * math.prod(sides_of(image_size))
        for number, width_out in enumerate(widths):
            layers.append(nn.Linear(width, width_out, bias=not batch_norm and number == 0))
            layers += [nn.BatchNorm1d(width_out)] if batch_norm else []
            layers += [nn.LeakyReLU(slope), nn.Dropout(dropout)]
            width = width_out
        self.hidden = nn.Sequential(*layers)
        self.head = nn.Linear(width, num_classes, bias=batch_norm)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        f_BD = self.hidden(x_BCHW)
        return self.head(f_BD)


class SignalFCN(nn.Module):
    """Convolutions along a signal with BatchNorm and ReLU, then the mean over all positions.

    Source: Wang, Yan and Oates (2016, arXiv 1611.06455, section II.B), with fewer channels.

    Args:
        num_classes: N.
        channels: Channels of the signals.
        image_size: Not used; present because all networks take the same arguments.
        widths: Channels of each convolution.
        kernels: Their lengths, odd numbers.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        image_size: int | Sequence[int],
        widths: Sequence[int] = (32, 64, 32),
        kernels: Sequence[int] = (7, 5, 3),
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = channels
        for width_out, kernel in zip(widths, kernels, strict=True):
            layers += [
                nn.Conv1d(width, width_out, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm1d(width_out),
                nn.ReLU(),
            ]
            width = width_out
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x_BCL: Tensor) -> Tensor:
        f_BD = self.convolutions(x_BCL).mean(dim=2)
        return self.head(f_BD)


class ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv_block(channels_in, channels_out, 0.0, stride),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.relu(self.residual(x_BCHW) + self.shortcut(x_BCHW))


class ResNet(nn.Module):
    """A small residual network as for CIFAR: a 3 x 3 stem, residual blocks, global pooling.

    Args:
        num_classes: N.
        channels: Channels of the images.
        image_size: Not used; present because all networks take the same arguments.
        widths: Channels of each stage; every stage but the first halves the side.
        blocks: Residual blocks per stage (1: ResNet-8, 3: ResNet-20).
        stem_stride: 2 halves the side in the stem, for speed.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        image_size: int | Sequence[int],
        widths: Sequence[int] = (24, 48, 96),
        blocks: int = 1,
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_block(channels, widths[0], 0.0, stem_stride)]
        width = widths[0]
        for stage, width_out in enumerate(widths):
            for block in range(blocks):
                layers.append(
                    ResidualBlock(width, width_out, stride=2 if stage > 0 and block == 0 else 1)
                )
                width = width_out
        self.residual = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(width, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        f_BD = self.residual(x_BCHW)
        return self.head(f_BD)


class ViT(nn.Module):
    """A small vision transformer; the mean of the tokens is the penultimate feature.

    Args:
        num_classes: N.
        channels: Channels of the images.
        image_size: Side of square images in pixels, or (height, width); multiples of `patch`.
        patch: Side of a patch in pixels.
        dim: Width of a token, a multiple of `heads`.
        depth: Transformer blocks.
        heads: Attention heads.
        expansion: Width of a block's MLP, in multiples of `dim`.
        stem: Channels of the convolution before the patches, which helps on small data sets; 0
            for none.
        dropout: Probability of dropout after attention and MLP.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        image_size: int | Sequence[int],
        patch: int = 4,
        dim: int = 96,
        depth: int = 4,
        heads: int = 3,
        expansion: int = 2,
        stem: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        H, W = sides_of(image_size)
        if H % patch or W % patch:
            raise ValueError(f"patch={patch}: must divide the image size {image_size}")
        if dim % heads:
            raise ValueError(f"dim={dim}: must be a multiple of heads={heads}")
        tokens = (H // patch) * (W // patch)
        self.stem = conv_block(channels, stem, 0.0) if stem else nn.Identity()
        self.embed = nn.Conv2d(stem or channels, dim, patch, stride=patch)
        self.positions_TD = nn.Parameter(torch.randn(tokens, dim) * 0.02)
        self.blocks = nn.Sequential(
            *(TransformerBlock(dim, heads, expansion, dropout) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        t_BTD = self.embed(self.stem(x_BCHW)).flatten(2).transpose(1, 2) + self.positions_TD
        f_BD = self.norm(self.blocks(t_BTD)).mean(dim=1)
        return self.head(f_BD)
