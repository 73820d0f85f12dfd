"""The conditioned generator: from a latent vector to an image.

Suhail, Tang and Sethi (2024, arXiv 2411.17777, section 3.2).

Stage 1 up-samples the latent and the conditioning vector to S x S. There the conditioning matrix is
concatenated as further channels. Stage 2 up-samples to the size of the image. A sigmoid at the end
keeps the pixels in [0, 1]. The layers are planned from the shape (`generator_plan.py`); signals are
images of one column, tables images of one pixel, so that this is the generator of all of them.

Shape suffixes: B batch, Z latent, N classes, M channels and S side of the conditioning matrix, C
channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from netinv_lightning.config.shapes import fault_of_size, sides_of
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.generator_plan import Layer, Sides, plan_layers
from netinv_lightning.inversion.layers import BatchNorm, ChannelDropout, Upsampling
from netinv_lightning.inversion.opponent_colours import rgb_of_opponent
from netinv_lightning.inversion.output_range import to_unit_interval
from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.float32 import widened

UPSAMPLINGS = ("auto", "transposed", "resize")


class Generator(nn.Module):
    """Maps latent vectors and conditions to images in [0, 1].

    Args:
        conditioning: Defines the inputs of the generator, and S.
        channels: Channels of the images; of tables, the features.
        image_size: Side of square images in pixels, 8 to 512; else the sides: (H, W) of images,
            (L,) of signals, () of tables.
        latent_dim: Length Z of the latent vectors.
        hidden: Width of the embedding of the conditioning vector, or of the label.
        seed_widths: Channels of the layers of stage 1; layers beyond those needed keep the side.
            None for widths that fit the shape.
        image_widths: The same for the layers of stage 2, before the one that makes the image.
        upsampling: `transposed`, `resize`, or `auto`: `transposed` for square images of up to 64
            pixels, else `resize`.
        dropout: Probability of dropping a channel, in the up-sampling layers.
        dropout_in_seed: Drop channels in stage 1 too.
        slope: Negative slope of the activation; 0 for ReLU.
        weight_std: Standard deviation of normal initial weights; None for torch's initialisation.
        opponent_colours: Make brightness and two colour differences instead of RGB.
        stage1: Layers of stage 1 as [channels, kernel, stride, padding]; None to plan them from
            `seed_widths`.
        stage2: The same for stage 2; its last entry makes the image, with 0 channels.
        groups: Features of tables that are a one-hot code; a softmax makes their values.

    Raises:
        ValueError: if a value is out of range, or the layers do not reach S or the size of the
            image; it starts with `<argument>=`.
    """

    def __init__(
        self,
        conditioning: Conditioning,
        channels: int,
        image_size: int | Sequence[int],
        latent_dim: int = 32,
        hidden: int = 128,
        seed_widths: Sequence[int] | None = None,
        image_widths: Sequence[int] | None = None,
        upsampling: str = "auto",
        dropout: float = 0.1,
        dropout_in_seed: bool = True,
        slope: float = 0.0,
        weight_std: float | None = None,
        opponent_colours: bool = False,
        stage1: Sequence[Sequence[int]] | None = None,
        stage2: Sequence[Sequence[int]] | None = None,
        groups: Sequence[Sequence[int]] = (),
    ) -> None:
        super().__init__()
        if fault := fault_of_size(image_size):
            raise ValueError(f"image_size={image_size}: {fault}")
        if upsampling not in UPSAMPLINGS:
            raise ValueError(f"upsampling={upsampling}: choose from {', '.join(UPSAMPLINGS)}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}: must be from 0 to below 1")
        sizes = {
            "latent_dim": [latent_dim],
            "hidden": [hidden],
            "seed_widths": [1] if seed_widths is None else list(seed_widths),
            "image_widths": [1] if image_widths is None else list(image_widths),
        }
        for name, values in sizes.items():
            if min(values, default=0) < 1:
                raise ValueError(
                    f"{name}={values if name.endswith('widths') else values[0]}: must be 1 or more"
                )
        if opponent_colours and channels != 3:
            raise ValueError("opponent_colours=true: is for RGB images; leave it out")
        self.latent_dim, self.image_size, self.channels = latent_dim, image_size, channels
        self.opponent_colours = opponent_colours
        self.shape = (channels, *sides_of(image_size))
        self.groups = tuple(tuple(group) for group in groups)
        matrix_channels, *matrix_sides = conditioning.matrix_shape
        plan = plan_layers(
            self.shape[1:],
            channels,
            (matrix_sides[0], matrix_sides[1]),
            seed_widths=seed_widths,
            image_widths=image_widths,
            upsampling=upsampling,
            stage1=stage1,
            stage2=stage2,
        )
        self.embedding: nn.Module | None = None
        if conditioning.uses_label:
            self.embedding = nn.Embedding(len(conditioning.chosen), hidden)
        elif conditioning.uses_vector:
            self.embedding = nn.Linear(len(conditioning.chosen), hidden)

        def stage(
            width: int, sides: Sides, layers: Sequence[Layer], dropout: float
        ) -> tuple[nn.Sequential, int, Sides]:
            steps: list[nn.Module] = []
            for layer in layers:
                steps.append(Upsampling(width, layer, sides, bias=False))
                steps.append(BatchNorm(layer.channels))
                if dropout:
                    steps.append(ChannelDropout(dropout))
                steps.append(nn.LeakyReLU(slope) if slope else nn.ReLU())
                width, sides = layer.channels, layer.sides
            return nn.Sequential(*steps), width, sides

        width = latent_dim + (hidden if self.embedding is not None else 0)
        self.stage1, width, sides = stage(
            width, (1, 1), plan.stage1, dropout if dropout_in_seed else 0.0
        )
        width += matrix_channels if conditioning.uses_matrix else 0
        self.stage2, width, sides = stage(width, sides, plan.stage2, dropout)
        self.to_image = Upsampling(width, plan.to_image, sides, bias=True)
        if weight_std is not None:
            self._initialise(weight_std)

    def forward(self, z_BZ: Tensor, condition: Condition) -> Tensor:
        """Images [B, C, H, W] in [0, 1] (signals [B, C, L], tables [B, C]), in float32 or wider."""
        z_BZ = z_BZ.to(next(self.parameters()).dtype)
        if self.embedding is not None:
            # Scaled by N the entries average 1 and are as large as the latent's.
            label_B = condition.label_B if condition.place_B is None else condition.place_B
            embedded = (
                label_B
                if condition.vector_BN is None
                else condition.vector_BN.to(z_BZ) * condition.vector_BN.shape[1]
            )
            z_BZ = torch.cat([z_BZ, self.embedding(embedded)], dim=1)
        x_BCSS = self.stage1(z_BZ[:, :, None, None])
        if condition.matrix_BMSS is not None:
            x_BCSS = torch.cat([x_BCSS, condition.matrix_BMSS.to(x_BCSS.dtype)], dim=1)
        x_BCHW = widened(self.to_image(self.stage2(x_BCSS)))
        if self.opponent_colours:
            x_BCHW = rgb_of_opponent(x_BCHW)
        if len(self.shape) < 3:  # signals and tables have fewer sides
            x_BCHW = x_BCHW.reshape(-1, *self.shape)
        return to_unit_interval(x_BCHW, self.groups)

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
