"""Train several generators in parallel, each independently of the others.

Their weights are stacked, and their forward pass is vectorised by torch.func.

Shape suffixes: G generators, B batch, N classes, Z latent, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.micro_batches import trace_in_parts
from netinv_lightning.training.distributed import Stream, world_size
from netinv_lightning.training.seeds import stream_seed


@dataclass(frozen=True)
class Outputs:
    """What a classifier returns for the images of one generator.

    Attributes:
        logits_BN: The logits.
        features: For each feature layer, the features [B, D].
        normed: For each BatchNorm layer, its input [B, C, ...], or two rows with its moments.
    """

    logits_BN: Tensor
    features: Mapping[str, Tensor]
    normed: Mapping[str, Tensor]


class GeneratorEnsemble(nn.ModuleList):
    """Generators of one architecture, each with its own weights and its own random stream.

    A generator draws the same random numbers, no matter which others are trained with it. With one
    generator nothing is stacked.

    Args:
        generators: The generators.
        seed: Seed of the first generator's stream; the next one has `seed + 1`, and so on.
    """

    def __init__(self, generators: Iterable[Generator], seed: int = 0) -> None:
        super().__init__(generators)
        # A derived seed is used, because the initial weights were drawn with the seed itself.
        self.streams = [Stream(stream_seed(0, seed + g)) for g in range(len(self))]

    def generator(self, g: int) -> Generator:
        """Return generator `g`."""
        generator = self[g]
        assert isinstance(generator, Generator)
        return generator

    def only(self, g: int) -> GeneratorEnsemble:
        """Return generator `g` alone, with its own stream."""
        alone = GeneratorEnsemble([self.generator(g)])
        alone.streams = [self.streams[g]]
        return alone

    def start_streams(self, device: torch.device, states: Sequence[Tensor] | None) -> None:
        """Move the streams to `device`; continue them from the states of a checkpoint, if given.

        Dropout draws from them from now on.
        """
        for g, stream in enumerate(self.streams):
            stream.to(device)
            if states is not None:
                stream.state = states[g]
            self.generator(g).draw_dropout_from(stream)

    def sample(
        self, conditioning: Conditioning, batch_size: int, device: torch.device
    ) -> tuple[list[Tensor], list[Condition]]:
        """Draw latents [B, Z] and conditions for each generator; B is this process's share."""
        latents_G, conditions_G = [], []
        for g, stream in enumerate(self.streams):
            share = batch_size // world_size()
            conditions_G.append(conditioning.sample(share, device, stream))
            latents_G.append(self.generator(g).sample_latent(share, device, stream))
        return latents_G, conditions_G

    def forward(
        self, latents_G: Sequence[Tensor], conditions_G: Sequence[Condition]
    ) -> list[Tensor]:
        """Generate the images [B, C, H, W] of each generator in one vectorised pass.

        Each generator has its own BatchNorm statistics. All must be in the same mode. Dropout draws
        from the first one's stream.

        Args:
            latents_G: Latents [B, Z] of each generator.
            conditions_G: Conditions of each generator.
        """
        first = self.generator(0)
        if len(self) == 1:
            return [first(latents_G[0], conditions_G[0])]
        weights = {
            name: torch.stack([g.get_parameter(name) for g in self])
            for name, _ in first.named_parameters()
        }
        buffers = {
            name: torch.stack([g.get_buffer(name) for g in self])
            for name, _ in first.named_buffers()
        }
        fields = [
            [c.label_B, c.target_BN, c.vector_BN, c.matrix_BMSS, c.place_B] for c in conditions_G
        ]
        stacked = [
            None if values[0] is None else torch.stack(list(values))
            for values in zip(*fields, strict=True)
        ]

        def generate(
            weights: dict[str, Tensor], buffers: dict[str, Tensor], z_BZ: Tensor, *parts: Any
        ) -> Tensor:
            condition = Condition(*parts[:-1], place_B=parts[-1])
            images: Tensor = functional_call(first, {**weights, **buffers}, (z_BZ, condition))
            return images

        in_dims = (0, 0, 0, *(None if field is None else 0 for field in stacked))
        x_GBCHW: Tensor = vmap(generate, in_dims=in_dims, randomness="different")(
            weights, buffers, torch.stack(list(latents_G)), *stacked
        )
        with torch.no_grad():  # BatchNorm wrote its running statistics into the stacked copies
            for name, buffer in buffers.items():
                torch._foreach_copy_([g.get_buffer(name) for g in self], list(buffer.unbind()))
        return list(x_GBCHW.unbind())

    def augment(self, augmentation: Augmentation, images_G: Sequence[Tensor]) -> list[Tensor]:
        """Return a random view of each image, drawn from its generator's stream."""
        return [
            augmentation(x_BCHW, stream)
            for x_BCHW, stream in zip(images_G, self.streams, strict=True)
        ]

    def classify(
        self,
        classifier: FrozenClassifier,
        views_G: Sequence[Tensor],
        micro_batch: int | None = None,
    ) -> list[Outputs]:
        """Pass the views of all generators through the classifier at once; split its outputs.

        Views of different sizes, those that are processed in parts of `micro_batch` images, and
        those of a classifier that summarises its batches, are passed one generator after the other.
        """
        G = len(self)
        one_by_one = micro_batch is not None or classifier.recorder.summarise is not None
        if one_by_one or len({view_BCHW.shape for view_BCHW in views_G}) > 1:
            return [
                Outputs(*trace_in_parts(classifier, view_BCHW, micro_batch))
                for view_BCHW in views_G
            ]
        logits, features, normed = classifier.trace(torch.cat(list(views_G)))

        def split(values: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
            chunks = {name: value.chunk(G) for name, value in values.items()}
            return [{name: chunk[g] for name, chunk in chunks.items()} for g in range(G)]

        return [
            Outputs(*outputs)
            for outputs in zip(logits.chunk(G), split(features), split(normed), strict=True)
        ]
