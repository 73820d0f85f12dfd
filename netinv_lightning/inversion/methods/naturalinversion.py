"""`method=naturalinversion`: a new generator for each batch (Kim et al. 2022, arXiv 2306.16661).

    z, class -> new generator -> image x1 -> classifier -> maps of its layers (no gradient)
    maps, coarse to fine -> feature pyramid -> change of x1 -> x2
    image = sigmoid(alpha tanh(x2)),   alpha per image and channel -> classifier -> objective
        -> generator, pyramid, alpha

A generator makes one batch only and is then discarded, so batches do not share what one generator
prefers. The maps that the classifier computes for the first image add detail. The scale alpha lets
each image use its own range of colours.

Differences from the paper:

- The maps are the inputs of BatchNorm layers, one per size. For networks without BatchNorm, and for
  signals and tables, there is no pyramid.
- The paper multiplies tanh(x2) by alpha and leaves the range of the images open. Here a sigmoid
  keeps them in [0, 1], for which the terms of the objective are defined.
- The objective is `loss`; loss=naturalinversion has the paper's terms except the L2 norm. The paper
  takes the last images of more than 2,000 steps with the lowest loss; here the last step counts.

Shape suffixes: B batch, Z latent, N classes, C channels, H height, W width, M maps, D channels of a
map, h, w its sides.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.rules import JITTER, POSITIVE, STEPS, WIDTH, Count
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.cost import CostMeter
from netinv_lightning.inversion.methods.gradient import PixelInversion
from netinv_lightning.inversion.methods.vector_decoder import VectorDecoder
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.seeds import own_randomness

MEAN_SCALE = 5.0
"""Mean of the first scales alpha, whose standard deviation is 1, as in the paper."""
LEAST = 1e-4
"""Images are clamped to this distance from 0 and 1 before the inverse of the sigmoid."""


class NaturalInversion(PixelInversion):
    """Trains a generator, a feature pyramid and scales for each batch.

    Args:
        conditioning: Draws the conditions of each batch.
        classifier: The network to invert; it is never changed.
        objective: The weighted loss terms.
        perturbation: Perturbs the images for the perturbed terms.
        augmentation: Random views of the images, which the classifier sees.
        log_every: Steps between two reports.
        micro_batch: Images that the classifier processes at once; None for all.
        steps: Steps for each batch.
        lr: Learning rate of Adam for the generator.
        pyramid_lr: Learning rate of the feature pyramid.
        scale_lr: Learning rate of the scales.
        latent_dim: Entries of z.
        width: Channels of the generator's first layers.
        jitter: In each step the batch is shifted by up to this many pixels down and across.
    """

    def __init__(
        self,
        conditioning: Conditioning,
        classifier: FrozenClassifier,
        objective: Objective,
        perturbation: Perturbation,
        augmentation: Augmentation,
        log_every: int,
        micro_batch: int | None,
        *,
        steps: Annotated[int, STEPS] = 150,
        lr: Annotated[float, POSITIVE] = 5e-3,
        pyramid_lr: Annotated[float, POSITIVE] = 2e-3,
        scale_lr: Annotated[float, POSITIVE] = 0.05,
        latent_dim: Annotated[int, Count(1, 16_384)] = 64,
        width: Annotated[int, WIDTH] = 24,
        jitter: Annotated[int, JITTER] = 2,
    ) -> None:
        super().__init__(
            conditioning, classifier, objective, perturbation, augmentation,
            log_every=log_every, micro_batch=micro_batch, steps=steps, lr=lr,
            jitter=min(jitter, max(0, min(classifier.spec.sides, default=1) - 1)),
        )  # fmt: skip
        self.pyramid_lr, self.scale_lr = pyramid_lr, scale_lr
        self.latent_dim, self.width = latent_dim, width

    @torch.enable_grad()
    def _optimise(self, condition: Condition, seed: int, meter: CostMeter) -> Tensor:
        B, spec = len(condition.label_B), self.classifier.spec
        stream, shifts = Stream(seed, self.device), random.Random(seed)
        z_BZ = stream.normal(B, self.latent_dim)
        vector_BV = torch.cat([z_BZ, condition.target_BN.to(z_BZ)], dim=1)
        maker = ScaledMaker(
            VectorDecoder(spec, vector_BV.shape[1], self.width, seed % 2**32),
            self._maps_of(torch.zeros(2, *spec.shape, device=self.device)),
            MEAN_SCALE + stream.normal(B, spec.channels, *[1] * len(spec.sides)),
        ).to(self.device)

        def image() -> Tensor:
            first_BCHW = maker.generator(vector_BV)
            return maker(first_BCHW, self._maps_of(first_BCHW.detach()))

        def score(step: int) -> tuple[Tensor, Tensor]:
            with self.autocast():
                return self._score(image(), condition, stream, shifts)

        groups: list[dict[str, Any]] = [
            {"params": [*maker.generator.parameters()], "lr": self.lr},
            {"params": [maker.scale_BC11], "lr": self.scale_lr},
        ]
        if maker.pyramid is not None:
            groups.append({"params": [*maker.pyramid.parameters()], "lr": self.pyramid_lr})
        descent = self._start_batch(groups, meter)
        descent.run(score, report=lambda step, recent_KV: self._report(step, recent_KV, B))
        with torch.no_grad():
            return image()

    @torch.no_grad()
    def _maps_of(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the classifier's maps for images, from coarse to fine; none without BatchNorm."""
        if self.classifier.spec.modality != "images" or not self.classifier.batch_norms:
            return []
        _, _, normed = self.classifier.trace(x_BCHW)
        return one_per_size(normed)


class ScaledMaker(nn.Module):
    """Generator, feature pyramid and scales of one batch.

    Args:
        generator: Makes the first images.
        maps: Maps of the classifier for any images, from coarse to fine; may be empty.
        scale_BC11: The first scales.
    """

    def __init__(
        self, generator: VectorDecoder, maps: Sequence[Tensor], scale_BC11: Tensor
    ) -> None:
        super().__init__()
        self.generator = generator
        self.scale_BC11 = nn.Parameter(scale_BC11)
        self.pyramid: FeaturePyramid | None = None
        if maps:
            shapes = [x_BDhw.shape[1] for x_BDhw in maps]
            self.pyramid = FeaturePyramid(shapes, scale_BC11.shape[1])

    def forward(self, first_BCHW: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Return images in [0, 1] from the first images and the classifier's maps for them."""
        x_BCHW = first_BCHW.logit(eps=LEAST)
        if self.pyramid is not None:
            x_BCHW = x_BCHW + self.pyramid(maps, x_BCHW.shape[2:])
        return (self.scale_BC11 * x_BCHW.tanh()).sigmoid()


class FeaturePyramid(nn.Module):
    """Merges maps from coarse to fine and turns them into a change of the image, 0 at first.

    Args:
        widths: Channels of the maps, from coarse to fine.
        channels: C.
    """

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        with own_randomness(0, torch.device("cpu")):
            pairs = list(pairwise(widths))
            self.lateral = nn.ModuleList(nn.Conv2d(D, finer, 1) for D, finer in pairs)
            self.merged = nn.ModuleList(nn.Conv2d(D, D, 3, padding=1) for D in widths[1:])
            self.to_image = nn.Conv2d(widths[-1], channels, 1)
        nn.init.zeros_(self.to_image.weight)
        assert self.to_image.bias is not None
        nn.init.zeros_(self.to_image.bias)

    def forward(self, maps: Sequence[Tensor], sides: Sequence[int]) -> Tensor:
        """Return the change [B, C, H, W] of images with these sides."""
        x_BDhw = maps[0]
        for lateral, merge, finer_BDhw in zip(self.lateral, self.merged, maps[1:], strict=True):
            x_BDhw = F.interpolate(x_BDhw, finer_BDhw.shape[2:])
            x_BDhw = merge(lateral(x_BDhw) + finer_BDhw)
        return F.interpolate(self.to_image(x_BDhw), list(sides))


def one_per_size(normed: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the last recorded map [B, D, h, w] of each size, from the smallest to the largest."""
    of_sizes = {x.shape[2:]: x.detach() for x in normed.values() if x.dim() == 4}
    return [of_sizes[sides] for sides in sorted(of_sizes, key=lambda sides: sides.numel())]
