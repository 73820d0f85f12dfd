"""`method=gradient`: inversion by gradient descent on the pixels. Nothing is trained.

    theta ~ N(0, init_std^2) -> image = sigmoid(...theta...) in [0, 1] -> jitter, augmentation
        -> frozen classifier -> objective -> theta

This is the oldest inversion (Kindermann and Linden 1990), under the same objective as the
generator's. Its usual priors are terms of that objective (`variation`, and `batch_norm` of
DeepInversion), or the options `jitter` and `parametrisation`.

Shape suffixes: B batch, C channels, H height, W width, F frequencies along the width, V values of a
step.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.ranges import JITTER, NOT_NEGATIVE, POSITIVE, Count, Names
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.cost import CostMeter
from netinv_lightning.inversion.methods.descent import DescentInversion
from netinv_lightning.inversion.micro_batches import trace_in_parts
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.output_range import to_unit_interval
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.inversion.terms import Step
from netinv_lightning.training.distributed import Stream


class Pixel:
    """One parameter per pixel: image = sigmoid(theta); one-hot features are a softmax."""

    def __init__(self, spec: DataSpec, device: torch.device) -> None:
        self.shape, self.groups = spec.shape, spec.groups

    def __call__(self, theta: Tensor) -> Tensor:
        return to_unit_interval(theta, self.groups)


class Fourier:
    """Two parameters per spatial frequency f, scaled by 1/f like the amplitudes of natural images.

    Each step of Adam then changes coarse structure more than fine structure (Olah,
    Mordvintsev and Schubert 2017, "Feature visualization", distill.00007).
    With theta ~ N(0, s^2) the input of the sigmoid has variance s^2, as with `Pixel`. Colours are
    not decorrelated, because that needs statistics of real images.
    """

    def __init__(self, spec: DataSpec, device: torch.device) -> None:
        channels, height, width = spec.shape
        self.sides = height, width
        self.shape: tuple[int, ...] = (2, channels, height, width // 2 + 1)
        across_F = torch.fft.rfftfreq(width)
        f_HF = torch.hypot(torch.fft.fftfreq(height)[:, None], across_F)
        scale_HF = 1 / f_HF.clamp_min(1 / max(height, width))
        # A frequency represents its conjugate too, which is not stored.
        share_F = torch.where((across_F == 0) | (across_F == 0.5), 1.0, 4.0)
        root = math.sqrt(height * width)
        self.scale_HF = (scale_HF * root / (scale_HF.square() * share_F).sum().sqrt()).to(device)

    def __call__(self, theta: Tensor) -> Tensor:
        spectrum_BCHF = torch.complex(theta[:, 0], theta[:, 1]) * self.scale_HF
        return torch.fft.irfft2(spectrum_BCHF, s=self.sides, norm="ortho").sigmoid()


PARAMETRISATIONS: dict[str, type[Pixel] | type[Fourier]] = {"pixel": Pixel, "fourier": Fourier}
"""Maps from free parameters to images in [0, 1], by name."""


class PixelInversion(DescentInversion):
    """Optimises images, batch by batch, so that the classifier assigns the requested classes.

    Drawn images are stored, so that the same conditions under the same random state are not
    optimised again.

    Args:
        conditioning: Draws the conditions of each batch.
        classifier: The network to invert; it is never changed.
        objective: The weighted loss terms. Terms that compare images compare those of one batch.
        perturbation: Perturbs the images for the perturbed terms.
        augmentation: Random views of the images, which the classifier sees.
        log_every: Steps between two reports.
        micro_batch: Images that the classifier processes at once; None for all.
        steps: Steps of Adam for each image.
        lr: Learning rate of Adam.
        parametrisation: `pixel` or `fourier`.
        jitter: In each step the batch is shifted by up to this many pixels down and across, at
            random, and wraps around. Images then depend less on the classifier's pixel grid.
        init_std: Standard deviation of the first images, before the sigmoid.

    Raises:
        ValueError: if a value is out of range. The message starts with `<argument>=<value>:`.
    """

    mixed_precision = True

    def __init__(
        self,
        conditioning: Conditioning,
        classifier: FrozenClassifier,
        objective: Objective,
        perturbation: Perturbation | None = None,
        augmentation: Augmentation | None = None,
        log_every: int = 10,
        micro_batch: int | None = None,
        *,
        steps: Annotated[int, Count(1, 1_000_000)] = 50,
        lr: Annotated[float, POSITIVE] = 0.3,
        parametrisation: Annotated[str, Names(("pixel", "fourier"))] = "pixel",
        jitter: Annotated[int, JITTER] = 0,
        init_std: Annotated[float, NOT_NEGATIVE] = 1.0,
    ) -> None:
        super().__init__(
            conditioning, classifier, objective,
            steps=steps, lr=lr, init_std=init_std, log_every=log_every,
        )  # fmt: skip
        if parametrisation not in PARAMETRISATIONS:
            raise ValueError(
                f"parametrisation={parametrisation}: choose from {', '.join(PARAMETRISATIONS)}"
            )
        if parametrisation == "fourier" and classifier.spec.modality != "images":
            raise ValueError(
                f"parametrisation=fourier: is for images, and the classifier takes "
                f"{classifier.spec.modality}; choose pixel"
            )
        if not 0 <= jitter < (side := min(classifier.spec.sides, default=1)):
            raise ValueError(
                f"jitter={jitter}: must be 0 or more, and below the image's {side} pixels"
            )
        self.perturbation = perturbation or Perturbation()
        self.augmentation = augmentation or Augmentation()
        self.micro_batch = micro_batch
        self.parametrisation, self.jitter = parametrisation, jitter
        self._drawn: dict[tuple[int, bytes, bytes], Tensor] = {}

    def draw(self, condition: Condition, g: int = 0) -> Tensor:
        # Torch's random state advances in the same way if the images are stored already.
        seed = int(torch.randint(2**62, ()))
        key = (
            seed,
            condition.label_B.cpu().numpy().tobytes(),
            condition.target_BN.cpu().numpy().tobytes(),
        )
        if key not in self._drawn:
            B, meter = len(condition.label_B), CostMeter(self.classifier.forward_count)
            # A single image is made twice, for the terms that compare images.
            x_BCHW = self._optimise(condition if B > 1 else _twice(condition), seed, meter)[:B]
            self._drawn[key] = x_BCHW
            self._add_cost(len(x_BCHW), meter)
        return self._drawn[key]

    @torch.enable_grad()
    def _optimise(self, condition: Condition, seed: int, meter: CostMeter) -> Tensor:
        B, spec = len(condition.label_B), self.classifier.spec
        stream, shifts = Stream(seed, self.device), random.Random(seed)
        image = PARAMETRISATIONS[self.parametrisation](spec, self.device)
        theta = (self.init_std * stream.normal(B, *image.shape)).requires_grad_()

        def score(step: int) -> tuple[Tensor, Tensor]:
            with self.autocast():
                loss, values_V = self._score(image(theta), condition, stream, shifts)
            return B * loss, values_V  # the sum makes an image's step independent of the batch size

        descent = self._start_batch([{"params": [theta], "lr": self.lr}], meter)
        descent.run(score, report=lambda step, recent_KV: self._report(step, recent_KV, B))
        return image(theta.detach())

    def _score(
        self, x_BCHW: Tensor, condition: Condition, stream: Stream, shifts: random.Random
    ) -> tuple[Tensor, Tensor]:
        """Return the mean loss of the images, and the values to log, [V]."""
        view_BCHW = x_BCHW
        if self.jitter:
            along = range(2, x_BCHW.dim())
            shift = [shifts.randint(-self.jitter, self.jitter) for _ in along]
            view_BCHW = x_BCHW.roll(shift, dims=tuple(along))
        logits_BN, features, normed = trace_in_parts(
            self.classifier, self.augmentation(view_BCHW, stream), self.micro_batch
        )
        step = Step(
            x_BCHW=x_BCHW,
            condition=condition,
            logits_BN=logits_BN,
            features=features,
            classifier=self.classifier,
            generator=nn.Identity(),
            perturbation=self.perturbation,
            stream=stream,
            normed=normed,
            micro_batch=self.micro_batch,
        )
        return self.objective.score(step, self._success(step))

    def _success(self, step: Step) -> Tensor:
        """Return the metric that is logged in addition to the objective."""
        return step.accuracy()


def _twice(condition: Condition) -> Condition:
    vector_BN, matrix_BMSS = condition.vector_BN, condition.matrix_BMSS
    place_B = condition.place_B
    return replace(
        condition,
        place_B=None if place_B is None else place_B.repeat(2),
        label_B=condition.label_B.repeat(2),
        target_BN=condition.target_BN.repeat(2, 1),
        vector_BN=None if vector_BN is None else vector_BN.repeat(2, 1),
        matrix_BMSS=None if matrix_BMSS is None else matrix_BMSS.repeat(2, 1, 1, 1),
    )
