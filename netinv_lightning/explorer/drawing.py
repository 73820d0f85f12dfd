"""What is shown of a finished inversion: images for any condition and any latent, and what the classifier makes of them.

Shape suffixes: B images that are shown, X these and their companions, N classes, Z latent, C channels, H height, W width,
D features.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet, extract_features
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.inversion.sampling import sampling_mode
from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.seeds import stream_seed

COMPANIONS = 63
"""Images drawn beside the shown ones where BatchNorm takes the statistics of the batch: one image alone has none."""
"""Added to the number of a draw, so that its dropout is not made of the numbers that made a latent."""
COMPANIONS_SEED = 2_000_003


@dataclass(frozen=True)
class Setting:
    """How an image is drawn, beside the class.

    Attributes:
        first: Seed of the latent at `position` 0.
        second: Seed of the latent at `position` 1.
        position: Where between the two, in [0, 1].
        generator: Which generator draws.
        dropout: Keep dropout on.
        draw: Which channels are dropped: the same number drops the same ones.
    """

    first: int = 0
    second: int = 1
    position: float = 0.0
    generator: int = 0
    dropout: bool = False
    draw: int = 0


class SharedDropout(Stream):
    """Drops the same channels in each of the shown images, so that a strip of them differs in nothing else.

    Args:
        draw: Its number.
        shown: The first images of the batch; the others drop channels of their own.
    """

    def __init__(self, draw: int, shown: int) -> None:
        super().__init__(stream_seed(0, draw))
        self.shown = shown

    def uniform(self, batch: int, *shape: int) -> Tensor:
        one = super().uniform(1, *shape)
        return torch.cat(
            [one.expand(self.shown, *shape), super().uniform(batch - self.shown, *shape)]
        )


def extract(classifier: FrozenClassifier, images_nCHW: Tensor) -> FeatureSet:
    """Compute logits and features of the last feature layer, as the inversion does."""
    layer = classifier.feature_layers[-1]
    return extract_features(
        classifier, images_nCHW, layer=layer, batch_size=250, channels_last=False
    )


def between(first_Z: Tensor, second_Z: Tensor, position: float) -> Tensor:
    """From one latent to another along the arc, so that all between them are as long as latents are; at 0 and 1 the ends themselves."""
    angle = F.cosine_similarity(first_Z, second_Z, dim=0).clamp(-1, 1).acos()
    if angle.sin() < 1e-6:  # the same latent twice
        return first_Z
    mixed_Z = ((1 - position) * angle).sin() * first_Z + (position * angle).sin() * second_Z
    return mixed_Z / angle.sin()


def distribution(weights_N: Tensor) -> Tensor:
    """Weights of the classes, 0 or more, as a distribution; the uniform one where all are 0."""
    total = weights_N.sum()
    return weights_N / total if total > 0 else torch.full_like(weights_N, 1 / len(weights_N))


class Drawing:
    """Draws images of a trained inversion; calls from several threads wait for each other.

    Args:
        module: The inversion; its sampling mode is the run's but for dropout, which each `Setting` says.
    """

    def __init__(self, module: InversionModule) -> None:
        self.module, self.classifier, self.conditioning = (
            module,
            module.classifier,
            module.conditioning,
        )
        self.classes = self.classifier.spec.class_names
        self._lock = threading.Lock()  # to sample is to switch the generator's layers

    @property
    def label_alone(self) -> bool:
        """Whether the generator is told the class and nothing else, so that of a vector only the largest entry counts."""
        rising_N = torch.arange(1.0, len(self.classes) + 1)
        return bool(self.conditioning.of_vectors(distribution(rising_N)[None]).target_BN.max() == 1)

    def latent(self, setting: Setting) -> Tensor:
        """The latent of a setting, [Z]."""
        Z = self._generator(setting).latent_dim
        return between(
            Stream(setting.first).normal(Z), Stream(setting.second).normal(Z), setting.position
        )

    def image(self, vector_N: Tensor, setting: Setting) -> FeatureSet:
        """One image.

        Args:
            vector_N: The conditioning vector, a distribution over the classes.
            setting: All else.
        """
        return self._draw(self.latent(setting)[None], vector_N[None], setting)

    def of_classes(self, labels: Sequence[int], setting: Setting) -> FeatureSet:
        """An image of each of the classes, conditioned on hot vectors, all of one latent."""
        hot_BN = F.one_hot(torch.tensor(labels), len(self.classes)).float()
        return self._draw(self.latent(setting).expand(len(labels), -1), hot_BN, setting)

    def between_classes(self, first: int, second: int, steps: int, setting: Setting) -> FeatureSet:
        """Images from one class to another, the vector going straight from hot to hot, all of one latent."""
        first_N, second_N = F.one_hot(torch.tensor([first, second]), len(self.classes)).float()
        vectors_BN = torch.stack(
            [torch.lerp(first_N, second_N, float(share)) for share in torch.linspace(0, 1, steps)]
        )
        return self._draw(self.latent(setting).expand(steps, -1), vectors_BN, setting)

    def between_latents(self, vector_N: Tensor, steps: int, setting: Setting) -> FeatureSet:
        """Images from the setting's first latent to its second, all of one vector."""
        positions = torch.linspace(0, 1, steps).tolist()
        z_BZ = torch.stack(
            [self.latent(replace(setting, position=position)) for position in positions]
        )
        return self._draw(z_BZ, vector_N.expand(steps, -1), setting)

    @torch.no_grad()
    def _draw(self, z_BZ: Tensor, vector_BN: Tensor, setting: Setting) -> FeatureSet:
        generator, module, B = self._generator(setting), self.module, len(z_BZ)
        z_XZ, vector_XN = z_BZ, vector_BN
        if module.sampling_batch_norm == "batch":
            companions = Stream(COMPANIONS_SEED)
            z_XZ = torch.cat([z_BZ, generator.sample_latent(COMPANIONS, stream=companions)])
            normal_XN = companions.normal(COMPANIONS, len(self.classes))
            vector_XN = torch.cat(
                [vector_BN, (normal_XN / self.conditioning.temperature).softmax(dim=1)]
            )  # as Conditioning.sample draws
        condition = self.conditioning.of_vectors(vector_XN)
        with self._lock, sampling_mode(generator, setting.dropout, module.sampling_batch_norm):
            generator.draw_dropout_from(SharedDropout(setting.draw, B))
            images_BCHW = generator(z_XZ, condition)[:B].float()
            return replace(
                extract(self.classifier, images_BCHW), targets_nN=condition.target_BN[:B]
            )

    def _generator(self, setting: Setting) -> Generator:
        generator = self.module.generators[setting.generator]
        assert isinstance(generator, Generator)
        return generator
