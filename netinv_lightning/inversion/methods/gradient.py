"""`method=gradient`: inversion by gradient descent on the pixels. Nothing is trained.

    theta ~ N(0, init_std^2) -> image = sigmoid(...theta...) in [0, 1] -> jitter, augmentation
        -> frozen classifier -> objective -> theta

This is the oldest inversion (Kindermann and Linden 1990), under the same objective as the
generator's. Its usual priors are terms of that objective (`variation`, and `batch_norm` of
DeepInversion), or the options `jitter` and `parametrisation`. The presets `method=deepinversion`,
`method=maco` and `method=lucid` choose terms and options as published.

Shape suffixes: B batch, C channels, H height, W width, V values of a step.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from netinv_lightning.classifiers.forward_count import uncounted
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.rules import (
    JITTER,
    NOT_NEGATIVE,
    PARAMETRISATION_NAMES,
    POSITIVE,
    SHARE,
    Count,
    Names,
    Number,
)
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.cost import CostMeter
from netinv_lightning.inversion.methods.batchwise import BatchwiseInversion
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.parametrisations import PARAMETRISATIONS
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.inversion.terms import Step
from netinv_lightning.training.distributed import Stream

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "nadam": torch.optim.NAdam,
}


class PixelInversion(BatchwiseInversion):
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
        beta1: Decay rate of Adam's mean of gradients.
        beta2: Decay rate of Adam's mean of squared gradients.
        final_lr: Learning rate of the last step as a share of `lr`, along a cosine.
        optimizer: `adam` or `nadam`.
        parametrisation: What is optimised: `pixel` (one parameter per pixel, before a sigmoid),
            `normalised` (normalised pixels, clipped), `fourier` (spatial frequencies),
            `opponent_fourier` (the same, with decorrelated colours), or `phase` (phases of the
            frequencies, whose magnitude is fixed to 1/f).
        jitter: In each step the batch is shifted by up to this many pixels down and across, at
            random, and wraps around. Images then depend less on the classifier's pixel grid.
        init_std: Standard deviation of the first parameters: of the images before the sigmoid, of
            normalised pixels, or of phases.
        coarse_steps: The first steps, in which the classifier gets images of half the size.

    Raises:
        InputError: if there are coarse steps and the classifier needs images of the whole size.
        ValueError: if a value is out of range. The message starts with `<argument>=<value>:`.
    """

    mixed_precision = True
    smallest_batch = 2

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
        beta1: Annotated[float, Number(0, 1, below=True)] = 0.9,
        beta2: Annotated[float, Number(0, 1, below=True)] = 0.999,
        final_lr: Annotated[float, SHARE] = 1.0,
        optimizer: Annotated[str, Names(("adam", "nadam"))] = "adam",
        parametrisation: Annotated[str, PARAMETRISATION_NAMES] = "pixel",
        jitter: Annotated[int, JITTER] = 0,
        init_std: Annotated[float, NOT_NEGATIVE] = 1.0,
        coarse_steps: Annotated[int, Count(0, 1_000_000)] = 0,
    ) -> None:
        super().__init__(
            conditioning, classifier, objective,
            steps=steps, lr=lr, init_std=init_std, log_every=log_every,
        )  # fmt: skip
        if parametrisation not in PARAMETRISATIONS:
            raise ValueError(
                f"parametrisation={parametrisation}: choose from {', '.join(PARAMETRISATIONS)}"
            )
        map_of = PARAMETRISATIONS[parametrisation]
        if map_of.images_only and classifier.spec.modality != "images":
            raise ValueError(
                f"parametrisation={parametrisation}: is for images, and the classifier takes "
                f"{classifier.spec.modality}; choose pixel"
            )
        if classifier.spec.groups and map_of is not PARAMETRISATIONS["pixel"]:
            raise ValueError(
                f"parametrisation={parametrisation}: changes each feature by itself, but the "
                "classifier has one-hot features; choose pixel"
            )
        if not 0 <= jitter < (side := min(classifier.spec.sides, default=1)):
            raise ValueError(
                f"jitter={jitter}: must be 0 or more, and below the image's {side} pixels"
            )
        self.perturbation = perturbation or Perturbation()
        self.augmentation = augmentation or Augmentation()
        self.micro_batch = micro_batch
        self.parametrisation, self.jitter, self.coarse_steps = map_of, jitter, coarse_steps
        self.betas, self.final_lr, self.optimizer_name = (beta1, beta2), final_lr, optimizer
        if coarse_steps:
            _check_half_size(classifier, coarse_steps)

    def optimizer(self, groups: list[dict[str, Any]]) -> Optimizer:
        return OPTIMIZERS[self.optimizer_name](groups, betas=self.betas, eps=self.eps)

    @torch.enable_grad()
    def _optimise(self, condition: Condition, seed: int, meter: CostMeter) -> Tensor:
        B = len(condition.label_B)
        stream, shifts = Stream(seed, self.device), random.Random(seed)
        image = self.parametrisation(self.classifier.spec, self.device)
        theta = (self.init_std * stream.normal(B, *image.shape)).requires_grad_()

        def score(step: int) -> tuple[Tensor, Tensor]:
            with self.autocast():
                x_BCHW = image(theta)
                if step <= self.coarse_steps:
                    x_BCHW = F.avg_pool2d(x_BCHW, 2)
                loss, values_V = self._score(x_BCHW, condition, stream, shifts)
            return B * loss, values_V  # the sum makes an image's step independent of the batch size

        descent = self._start_batch([{"params": [theta], "lr": self.lr}], meter)
        descent.run(
            score,
            report=lambda step, recent_KV: self._report(step, recent_KV, B),
            project=lambda: image.project(theta),
        )
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
        step = Step.of_views(
            x_BCHW,
            self.augmentation(view_BCHW, stream),
            condition,
            self.classifier,
            micro_batch=self.micro_batch,
            perturbation=self.perturbation,
            stream=stream,
        )
        return self.objective.score(step, self._success(step))

    def _success(self, step: Step) -> Tensor:
        """Return the metric that is logged in addition to the objective."""
        return step.accuracy()


def _check_half_size(classifier: FrozenClassifier, coarse_steps: int) -> None:
    """Check that a classifier can be called with images of half the size.

    Raises:
        InputError: if it cannot.
    """
    key = f"method.coarse_steps={coarse_steps}"
    if classifier.spec.modality != "images":
        raise InputError(f"{key}: is for images. Leave it out")
    half = [side // 2 for side in classifier.spec.sides]
    x_BCHW = torch.zeros(2, classifier.spec.channels, *half, device=classifier.mean_C11.device)
    try:
        with torch.no_grad(), uncounted(classifier):
            classifier(x_BCHW)
    except Exception as error:
        raise InputError(
            f"{key}: {classifier.name} cannot be called with images of half the size, "
            f"{' x '.join(map(str, half))} pixels ({type(error).__name__}). Leave it out"
        ) from error
