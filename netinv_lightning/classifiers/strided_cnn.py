"""A convolutional network of another kind than those that are inverted, for verifiers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class StridedCNN(nn.Module):
    """Strided convolutions with GroupNorm and GELU, then the mean over all positions.

    It has no BatchNorm, no pooling between its layers and no piecewise linear activation, so that
    it shares none of them with the networks that inversions use. GroupNorm: Wu and He (2018, arXiv
    1803.08494); GELU: Hendrycks and Gimpel (2016, arXiv 1606.08415).

    Args:
        num_classes: N.
        channels: Channels of the images.
        image_size: Not used; present because all networks take the same arguments.
        widths: Channels of each pair of convolutions, multiples of `groups`. The first convolution
            of a pair halves the side.
        kernel: Side of the kernels, an odd number.
        groups: Groups of GroupNorm.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        image_size: int | Sequence[int],
        widths: Sequence[int] = (32, 64, 96),
        kernel: int = 3,
        groups: int = 8,
    ) -> None:
        super().__init__()
        if fault := [width for width in widths if width % groups]:
            raise ValueError(
                f"widths={list(widths)}: {fault[0]} is not a multiple of groups={groups}"
            )
        layers: list[nn.Module] = []
        width = channels
        for width_out in widths:
            for stride in (2, 1):
                layers += [
                    nn.Conv2d(width, width_out, kernel, stride, padding=kernel // 2),
                    nn.GroupNorm(groups, width_out),
                    nn.GELU(),
                ]
                width = width_out
        self.convolutions = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(width, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        f_BD = self.convolutions(x_BCHW)
        return self.head(f_BD)
