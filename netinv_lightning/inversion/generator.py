"""The conditioned generator: from a latent vector to an image (arXiv:2407.18002, section 3.2).

Stage 1 up-samples the latent and the conditioning vector to S x S. There the conditioning matrix is
concatenated as one more channel. Stage 2 up-samples to the size of the image. A sigmoid at the end
keeps the pixels in [0, 1].

Shape suffixes: B batch, Z latent, N classes, S side of the conditioning matrix, C channels, H
height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.opponent_colours import rgb_of_opponent
from netinv_lightning.training.distributed import Stream, sum_over_ranks, world_size
from netinv_lightning.training.float32 import in_float32, widened

Layer = Sequence[int]
"""Channels out, kernel, stride, padding of one transposed convolution."""

LARGEST_GROWTH = 4
"""Pixels that a transposed convolution of stride 1 adds to the side; its kernel is 5."""


def growth(side: int, target: int, widths: Sequence[int]) -> list[Layer]:
    """Plan transposed convolutions from `side` to `target`: first of stride 1, then doublings.

    Args:
        side: Side to start from; 1 for a vector.
        target: Side to reach, `side` or more.
        widths: Output channels of the first layers; the last one is repeated.

    Returns:
        At least as many layers as `widths`, so that a longer list makes a deeper generator.
    """
    doublings = 0
    while target % 2 ** (doublings + 1) == 0 and target // 2 ** (doublings + 1) >= max(side, 4):
        doublings += 1
    start = target // 2**doublings
    plan: list[tuple[int, int, int]] = []
    if side == 1:
        plan.append((start, 1, 0))  # from a vector in one layer
    else:
        missing = start - side
        steps = max(1, -(-missing // LARGEST_GROWTH)) if missing else 0
        for step in range(steps):
            grow = missing // steps + (step < missing % steps)
            plan.append((grow + 1, 1, 0))
    plan += [(4, 2, 1)] * doublings
    plan += [(3, 1, 1)] * (len(widths) - len(plan))  # the other layers keep the side
    return [(widths[min(index, len(widths) - 1)], *layer) for index, layer in enumerate(plan)]


def side_after(layers: Sequence[Layer], side: int) -> int:
    """Return the side of the output of transposed convolutions."""
    for _, kernel, stride, padding in layers:
        side = (side - 1) * stride - 2 * padding + kernel
    return side


class Upsampling(nn.Sequential):
    """One layer of up-sampling.

    It is a transposed convolution, as in the papers, or a resize and a convolution, which avoids
    checkerboard artefacts. It needs no bias before BatchNorm, which removes any constant.
    """

    def __init__(
        self, channels_in: int, layer: Layer, side: int, upsampling: str, bias: bool
    ) -> None:
        channels_out, kernel, stride, padding = layer
        if upsampling == "transposed" or side == 1:  # a single pixel cannot be interpolated
            super().__init__(
                nn.ConvTranspose2d(channels_in, channels_out, kernel, stride, padding, bias=bias)
            )
        else:
            size = side_after([layer], side)
            resize = [nn.Upsample(size=size, mode="nearest")] if size != side else []
            super().__init__(*resize, nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=bias))


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
        if not (self.training and self.over_ranks and world_size() > 1):
            return super().forward(x_BCHW)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        y_BCHW, mean_C, var_C = normalised_over_ranks(x_BCHW, self.weight, self.bias, self.eps)
        n = world_size() * x_BCHW.numel() // x_BCHW.shape[1]
        with torch.no_grad():
            assert self.momentum is not None
            self.running_mean.lerp_(mean_C, self.momentum)
            self.running_var.lerp_(var_C * n / (n - 1), self.momentum)
            self.num_batches_tracked.add_(1)
        return y_BCHW.to(x_BCHW.dtype)


@in_float32
def normalised_over_ranks(
    x_BCHW: Tensor, weight_C: Tensor, bias_C: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise the channels over all ranks; return the result, and mean and variance [C]."""
    n = world_size() * x_BCHW.numel() // x_BCHW.shape[1]
    mean_C = sum_over_ranks(x_BCHW.sum(dim=(0, 2, 3))) / n
    centred_BCHW = x_BCHW - mean_C[:, None, None]
    var_C = sum_over_ranks(centred_BCHW.square().sum(dim=(0, 2, 3))) / n
    scale_C = weight_C * (var_C + eps).rsqrt()
    return centred_BCHW * scale_C[:, None, None] + bias_C[:, None, None], mean_C, var_C


class Generator(nn.Module):
    """Maps latent vectors and conditions to images in [0, 1].

    Args:
        conditioning: Defines the inputs of the generator, and S.
        channels: Channels of the images.
        image_size: Side of the images in pixels, 28 to 64.
        latent_dim: Z.
        hidden: Width of the embedding of the conditioning vector, or of the label.
        seed_widths: Channels of the layers of stage 1; layers beyond those needed keep the side.
        image_widths: Channels of the layers of stage 2, before the one that makes the image.
        upsampling: `transposed` or `resize`.
        dropout: Probability of dropping a channel, in the up-sampling layers.
        dropout_in_seed: Drop channels in stage 1 too.
        slope: Negative slope of the activation; 0 for ReLU.
        weight_std: Standard deviation of normal initial weights; None for torch's initialisation.
        opponent_colours: Make brightness and two colour differences instead of RGB.
        stage1: Layers of stage 1 as [channels, kernel, stride, padding]; None to plan them from
            `seed_widths`.
        stage2: The same for stage 2; its last entry makes the image, with 0 channels.

    Raises:
        ValueError: if a value is out of range, or the layers do not reach S or the size of the
            image; it starts with `<argument>=`.
    """

    def __init__(
        self,
        conditioning: Conditioning,
        channels: int,
        image_size: int,
        latent_dim: int = 32,
        hidden: int = 128,
        seed_widths: Sequence[int] = (16,),
        image_widths: Sequence[int] = (24, 12),
        upsampling: str = "transposed",
        dropout: float = 0.1,
        dropout_in_seed: bool = True,
        slope: float = 0.0,
        weight_std: float | None = None,
        opponent_colours: bool = False,
        stage1: Sequence[Layer] | None = None,
        stage2: Sequence[Layer] | None = None,
    ) -> None:
        super().__init__()
        if not 28 <= image_size <= 64:
            raise ValueError(
                f"image_size={image_size}: must be from 28 to 64, the sides of its images"
            )
        if upsampling not in ("transposed", "resize"):
            raise ValueError(f"upsampling={upsampling}: choose transposed or resize")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}: must be from 0 to below 1")
        sizes = {
            "latent_dim": [latent_dim],
            "hidden": [hidden],
            "seed_widths": list(seed_widths),
            "image_widths": list(image_widths),
        }
        for name, values in sizes.items():
            if min(values, default=0) < 1:
                raise ValueError(
                    f"{name}={values if name.endswith('widths') else values[0]}: must be 1 or more"
                )
        if opponent_colours and channels != 3:
            raise ValueError("opponent_colours=true: is for RGB images; leave it out")
        self.latent_dim, self.image_size, self.channels = latent_dim, image_size, channels
        self.opponent_colours, side = opponent_colours, conditioning.side
        self.embedding: nn.Module | None = None
        if conditioning.uses_label:
            self.embedding = nn.Embedding(conditioning.num_classes, hidden)
        elif conditioning.uses_vector:
            self.embedding = nn.Linear(conditioning.num_classes, hidden)

        seed_layers = list(stage1) if stage1 is not None else growth(1, side, seed_widths)
        if stage2 is None:
            stage2 = [*growth(side, image_size, image_widths), (0, 3, 1, 1)]
        image_layers = list(stage2)
        if (reached := side_after(seed_layers, 1)) != side:
            raise ValueError(
                f"stage1={seed_layers}: gives a side of {reached}; must give {side}, the side of "
                "the conditioning matrix"
            )
        if (reached := side_after(image_layers, side)) != image_size:
            raise ValueError(
                f"stage2={image_layers}: gives a side of {reached}; must give {image_size}, the "
                "side of the images"
            )

        def stage(width: int, side: int, layers: Sequence[Layer], dropout: float) -> nn.Sequential:
            steps: list[nn.Module] = []
            for layer in layers:
                steps.append(Upsampling(width, layer, side, upsampling, bias=False))
                steps.append(BatchNorm(layer[0]))
                if dropout:
                    steps.append(ChannelDropout(dropout))
                steps.append(nn.LeakyReLU(slope) if slope else nn.ReLU())
                width, side = layer[0], side_after([layer], side)
            return nn.Sequential(*steps)

        latent_and_vector = latent_dim + (hidden if self.embedding is not None else 0)
        self.stage1 = stage(latent_and_vector, 1, seed_layers, dropout if dropout_in_seed else 0.0)
        joined = seed_layers[-1][0] + (1 if conditioning.uses_matrix else 0)
        self.stage2 = stage(joined, side, image_layers[:-1], dropout)
        _, *last = image_layers[-1]
        before = image_layers[-2][0] if len(image_layers) > 1 else joined
        self.to_image = Upsampling(
            before, (channels, *last), side_after(image_layers[:-1], side), upsampling, bias=True
        )
        if weight_std is not None:
            self._initialise(weight_std)

    def forward(self, z_BZ: Tensor, condition: Condition) -> Tensor:
        """Images [B, C, H, W] in [0, 1]; float32 under mixed precision."""
        z_BZ = z_BZ.to(next(self.parameters()).dtype)
        if self.embedding is not None:
            # Scaled by N the entries average 1 and are as large as the latent's.
            embedded = (
                condition.label_B
                if condition.vector_BN is None
                else condition.vector_BN.to(z_BZ) * condition.vector_BN.shape[1]
            )
            z_BZ = torch.cat([z_BZ, self.embedding(embedded)], dim=1)
        x_BCSS = self.stage1(z_BZ[:, :, None, None])
        if condition.matrix_B1SS is not None:
            x_BCSS = torch.cat([x_BCSS, condition.matrix_B1SS.to(x_BCSS.dtype)], dim=1)
        x_BCHW = widened(self.to_image(self.stage2(x_BCSS)))
        return (rgb_of_opponent(x_BCHW) if self.opponent_colours else x_BCHW).sigmoid()

    def sample_latent(
        self, batch: int, device: torch.device | str = "cpu", stream: Stream | None = None
    ) -> Tensor:
        """Draw latents z ~ N(0, 1), [B, Z], from a stream or from torch's global random state."""
        return (
            torch.randn(batch, self.latent_dim, device=device)
            if stream is None
            else stream.normal(batch, self.latent_dim)
        )

    def draw_dropout_from(self, stream: Stream | None) -> None:
        """Set the random numbers of dropout; None for torch's global random state."""
        for module in self.modules():
            if isinstance(module, ChannelDropout):
                module.stream = stream

    def _initialise(self, std: float) -> None:
        """Initialise as DCGAN: convolutions N(0, std), BatchNorm weights N(1, std), biases 0."""
        for module in self.modules():
            if isinstance(module, (nn.ConvTranspose2d, nn.Conv2d)):
                nn.init.normal_(module.weight, 0.0, std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, std)
