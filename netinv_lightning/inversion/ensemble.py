"""Several generators in one pass: their weights stacked, their forward pass vectorised by torch.func.

Shape suffixes: G generators, B batch, Z latent, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from netinv_lightning.inversion.conditioning import Condition
from netinv_lightning.inversion.generator import Generator


def generate_together(
    generators: Sequence[Generator], latents_G: Sequence[Tensor], conditions_G: Sequence[Condition]
) -> list[Tensor]:
    """Images [B, C, H, W] of each of G generators of one architecture; each has its own BatchNorm statistics.

    Args:
        generators: The generators, all in the same mode. Dropout draws from the first one's stream.
        latents_G: Latents [B, Z] for each.
        conditions_G: Conditions for each.
    """
    first = generators[0]
    if len(generators) == 1:
        return [first(latents_G[0], conditions_G[0])]
    weights = {
        name: torch.stack([g.get_parameter(name) for g in generators])
        for name, _ in first.named_parameters()
    }
    buffers = {
        name: torch.stack([g.get_buffer(name) for g in generators])
        for name, _ in first.named_buffers()
    }
    parts = [[c.label_B, c.target_BN, c.vector_BN, c.matrix_B1SS] for c in conditions_G]
    stacked = [
        None if values[0] is None else torch.stack(list(values))
        for values in zip(*parts, strict=True)
    ]

    def one(
        weights: dict[str, Tensor], buffers: dict[str, Tensor], z_BZ: Tensor, *condition: Any
    ) -> Tensor:
        images: Tensor = functional_call(
            first, {**weights, **buffers}, (z_BZ, Condition(*condition))
        )
        return images

    in_dims = (0, 0, 0, *(None if part is None else 0 for part in stacked))
    x_GBCHW: Tensor = vmap(one, in_dims=in_dims, randomness="different")(
        weights, buffers, torch.stack(list(latents_G)), *stacked
    )
    with torch.no_grad():  # BatchNorm wrote its running statistics into the stacked copies
        for name, buffer in buffers.items():
            torch._foreach_copy_([g.get_buffer(name) for g in generators], list(buffer.unbind()))
    return list(x_GBCHW.unbind())
