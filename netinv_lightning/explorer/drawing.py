"""Draw images of a finished inversion for any condition and latent, with the classifier's outputs.

Shape suffixes: B shown images, X shown and additional images, N classes, Z latent, C channels,
H height, W width, D features.
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
"""Number of additional images, not shown, in a batch if BatchNorm uses the batch statistics."""
COMPANIONS_SEED = 2_000_003


@dataclass(frozen=True)
class Setting:
    """Everything that determines an image except the class.

    Attributes:
        first: Seed of the latent at `position` 0.
        second: Seed of the latent at `position` 1.
        position: Position between the two latents, in [0, 1].
        generator: Index of the generator.
        dropout: Whether dropout is active.
        draw: Number of the draw; equal numbers drop the same channels.
    """

    first: int = 0
    second: int = 1
    position: float = 0.0
    generator: int = 0
    dropout: bool = False
    draw: int = 0


class SharedDropout(Stream):
    """Random stream that drops the same channels in all shown images.

    Args:
        draw: Number of the draw.
        shown: Number of shown images, which are the first of the batch.
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
    """Interpolate spherically between two latents, so that the norm stays that of a latent."""
    angle = F.cosine_similarity(first_Z, second_Z, dim=0).clamp(-1, 1).acos()
    if angle.sin() < 1e-6:  # the same latent twice
        return first_Z
    mixed_Z = ((1 - position) * angle).sin() * first_Z + (position * angle).sin() * second_Z
    return mixed_Z / angle.sin()


def distribution(weights_N: Tensor) -> Tensor:
    """Normalise non-negative class weights; weights of 0 give the uniform distribution."""
    total = weights_N.sum()
    return weights_N / total if total > 0 else torch.full_like(weights_N, 1 / len(weights_N))


class Drawing:
    """Draws images of a trained inversion; thread-safe.

    Args:
        module: The inversion. Its sampling mode is that of the run, except for dropout, which
            each `Setting` determines.
    """

    def __init__(self, module: InversionModule) -> None:
        self.module, self.classifier, self.conditioning = (
            module,
            module.classifier,
            module.conditioning,
        )
        self.classes = self.classifier.spec.class_names
        self.labels = self.conditioning.chosen
        self._lock = threading.Lock()  # sampling changes the mode of the generator's layers

    @property
    def label_alone(self) -> bool:
        """Whether the conditioning uses only the largest entry of a vector, the label."""
        rising_N = torch.arange(1.0, len(self.classes) + 1)
        return bool(self.conditioning.of_vectors(distribution(rising_N)[None]).target_BN.max() == 1)

    def latent(self, setting: Setting) -> Tensor:
        """Return the latent of a setting, [Z]."""
        Z = self._generator(setting).latent_dim
        return between(
            Stream(setting.first).normal(Z), Stream(setting.second).normal(Z), setting.position
        )

    def image(self, vector_N: Tensor, setting: Setting) -> FeatureSet:
        """Draw one image.

        Args:
            vector_N: The conditioning vector, a distribution over the classes.
            setting: Latent, generator and dropout of the image.
        """
        return self._draw(self.latent(setting)[None], vector_N[None], setting)

    def of_classes(self, labels: Sequence[int], setting: Setting) -> FeatureSet:
        """Draw one image per class from hot vectors and the same latent."""
        hot_BN = F.one_hot(torch.tensor(labels), len(self.classes)).float()
        return self._draw(self.latent(setting).expand(len(labels), -1), hot_BN, setting)

    def between_classes(self, first: int, second: int, steps: int, setting: Setting) -> FeatureSet:
        """Draw images from one latent and vectors interpolated linearly between two classes."""
        first_N, second_N = F.one_hot(torch.tensor([first, second]), len(self.classes)).float()
        vectors_BN = torch.stack(
            [torch.lerp(first_N, second_N, float(share)) for share in torch.linspace(0, 1, steps)]
        )
        return self._draw(self.latent(setting).expand(steps, -1), vectors_BN, setting)

    def between_latents(self, vector_N: Tensor, steps: int, setting: Setting) -> FeatureSet:
        """Draw images between the two latents of the setting, with the same vector."""
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
