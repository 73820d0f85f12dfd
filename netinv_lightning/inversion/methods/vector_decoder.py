"""A network from a vector to an image, for methods that train networks of their own.

Shape suffixes: B batch, V entries of the vector, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from netinv_lightning.data.specs import DataSpec
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.training.seeds import own_randomness


class VectorDecoder(nn.Module):
    """The layers of the generator, without class conditioning, latent or dropout.

    Args:
        spec: Properties of the classifier's data: images, signals or tables of any size.
        entries: V.
        width: Channels of the first layers; the last ones have half as many.
        seed: Seed of the first weights.
    """

    def __init__(self, spec: DataSpec, entries: int, width: int, seed: int) -> None:
        super().__init__()
        self.entries = entries
        with own_randomness(seed, torch.device("cpu")):
            self.generator = Generator(
                Conditioning(entries, spec.image_size, "vector", temperature=1.0),
                spec.channels,
                spec.image_size,
                latent_dim=1,
                seed_widths=[width],
                image_widths=[width, max(1, width // 2)],
                dropout=0.0,
                groups=spec.groups,
            )

    def forward(self, vector_BV: Tensor) -> Tensor:
        """Return images [B, C, H, W] in [0, 1]; signals are [B, C, L], tables [B, C]."""
        condition = Condition(
            label_B=vector_BV.argmax(dim=1),
            target_BN=vector_BV,
            vector_BN=vector_BV / self.entries,  # the generator multiplies by the number of entries
            matrix_BMSS=None,
        )
        images_BCHW: Tensor = self.generator(vector_BV.new_zeros(len(vector_BV), 1), condition)
        return images_BCHW
