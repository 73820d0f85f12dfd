"""Inversion by gradient descent on the pixels: nothing is trained, drawing images is optimising them (A11).

    theta ~ N(0, init_std^2) -> image = sigmoid(...theta...) in [0, 1] -> jitter, augmentation -> frozen classifier -> objective -> theta

The oldest inversion (Kindermann & Linden 1990), under the same objective as the generator's. Its usual priors are terms of
that objective (`variation`; `batch_norm`, DeepInversion's), or `jitter` and `parametrisation` here.

Shape suffixes: B batch, C channels, H height, W width, F frequencies along the width, N classes, V values of a step, K steps.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.objective import Objective, Step
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.training.distributed import Stream


class Pixel:
    """A parameter a pixel: image = sigmoid(theta)."""

    def __init__(self, channels: int, side: int, device: torch.device) -> None:
        self.shape: tuple[int, ...] = (channels, side, side)

    def __call__(self, theta: Tensor) -> Tensor:
        return theta.sigmoid()


class Fourier:
    """Two parameters a spatial frequency f, scaled by 1/f as the amplitudes of natural images are (Olah et al. 2017).

    Each step of Adam then moves coarse structure more than fine. The scale is such that theta ~ N(0, s^2) gives the
    sigmoid an image of variance s^2, as with `Pixel`. Colours are not decorrelated: that takes statistics of real images.
    """

    def __init__(self, channels: int, side: int, device: torch.device) -> None:
        self.shape: tuple[int, ...] = (2, channels, side, side // 2 + 1)
        across_F = torch.fft.rfftfreq(side)
        f_HF = torch.hypot(torch.fft.fftfreq(side)[:, None], across_F)
        scale_HF = 1 / f_HF.clamp_min(1 / side)
        # A frequency whose conjugate is not stored stands for both, with twice the amplitude.
        share_F = torch.where((across_F == 0) | (across_F == 0.5), 1.0, 4.0)
        self.scale_HF = (scale_HF * side / (scale_HF.square() * share_F).sum().sqrt()).to(device)

    def __call__(self, theta: Tensor) -> Tensor:
        spectrum_BCHF = torch.complex(theta[:, 0], theta[:, 1]) * self.scale_HF
        side = self.shape[2]
        return torch.fft.irfft2(spectrum_BCHF, s=(side, side), norm="ortho").sigmoid()


PARAMETRISATIONS: dict[str, type[Pixel] | type[Fourier]] = {"pixel": Pixel, "fourier": Fourier}
"""From free parameters to images in [0, 1], by name."""

Report = Callable[[int, int, Mapping[str, float]], None]
"""Told of the number of a batch, a step of it, and the mean over the steps since the last: metric name to value."""


class PixelInversion:
    """Optimises images, a batch at a time, so that the classifier takes them for what they are conditioned on.

    It stands where a trained generator does: `draw` gives images for conditions. What `draw` made it keeps, so that
    whoever asks for the same images under the same randomness gets them without another optimisation.

    Args:
        conditioning: Draws what each batch is conditioned on.
        classifier: What is inverted; never changed.
        objective: The weighted terms; those that compare images see the images drawn together.
        perturbation: For the perturbed terms.
        augmentation: The views of the images that the classifier sees.
        steps: Steps of Adam for each image.
        lr: Its learning rate.
        parametrisation: `pixel` or `fourier`.
        jitter: In each step the batch is shifted by up to so many pixels down and across, at random; what leaves on one side
            comes in on the other. Images then depend less on where the classifier's grid of pixels lies.
        init_std: Standard deviation of the first images, before the sigmoid.
        log_every: Steps between two reports.

    Raises:
        ValueError: if a value is out of range; it starts with `<argument>=<value>:`.
    """

    generators = ("pixels",)  # evaluation shares images out over generators; here is one
    betas = (0.9, 0.999)  # of Adam
    final_lr = 1.0  # share of the learning rate that is left at the end, along a cosine
    success = names.INVERSION_ACCURACY_TRAIN  # what `_success` is

    def __init__(
        self,
        conditioning: Conditioning,
        classifier: FrozenClassifier,
        objective: Objective,
        perturbation: Perturbation | None = None,
        augmentation: Augmentation | None = None,
        steps: int = 50,
        lr: float = 0.3,
        parametrisation: str = "pixel",
        jitter: int = 0,
        init_std: float = 1.0,
        log_every: int = 10,
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps={steps}: must be 1 or more")
        if not 0 < lr < math.inf:
            raise ValueError(f"lr={lr}: must be above 0")
        if parametrisation not in PARAMETRISATIONS:
            raise ValueError(
                f"parametrisation={parametrisation}: choose from {', '.join(PARAMETRISATIONS)}"
            )
        if not 0 <= jitter < classifier.spec.image_size:
            raise ValueError(
                f"jitter={jitter}: must be 0 or more, and below the image's {classifier.spec.image_size} pixels"
            )
        if not 0 <= init_std < math.inf:
            raise ValueError(f"init_std={init_std}: must be 0 or more")
        self.conditioning, self.classifier, self.objective = conditioning, classifier, objective
        self.perturbation, self.augmentation = (
            perturbation or Perturbation(),
            augmentation or Augmentation(),
        )
        self.steps, self.lr, self.jitter, self.init_std, self.log_every = (
            steps,
            lr,
            jitter,
            init_std,
            log_every,
        )
        self.parametrisation = parametrisation
        self.columns = [
            *(names.loss(term) for term in objective.names),
            names.LOSS_TOTAL,
            self.success,
        ]
        self.report: Report = lambda batch, step, values: None
        self.autocast: Callable[[], AbstractContextManager[object]] = nullcontext
        self.scaler: torch.amp.GradScaler | None = (
            None  # under float16, in which small gradients vanish
        )
        self.batches, self.images, self.seconds, self.forwards, self.backwards = (
            0,
            0,
            0.0,
            0,
            0,
        )  # what drawing has cost so far
        self.accuracies: list[float] = []  # of each step of the first batch
        self.step_seconds: list[float] = []  # since its start
        self._drawn: dict[tuple[int, bytes, bytes], Tensor] = {}

    @property
    def device(self) -> torch.device:
        return self.classifier.mean_C11.device

    def to(self, device: torch.device) -> PixelInversion:
        self.classifier.to(device)
        return self

    def draw(self, condition: Condition, g: int = 0) -> Tensor:
        """Images [B, C, H, W] for given conditions; under the same randomness always the same."""
        seed = int(
            torch.randint(2**62, ())
        )  # from the global randomness, which moves on by as much where images are at hand
        key = (
            seed,
            condition.label_B.cpu().numpy().tobytes(),
            condition.target_BN.cpu().numpy().tobytes(),
        )
        if key not in self._drawn:
            B, passes, start = (
                len(condition.label_B),
                self.classifier.forward_count,
                time.perf_counter(),
            )
            forwards, backwards = passes.forwards, passes.backwards
            # A single image is made twice, for the terms that compare images.
            x_BCHW = self._optimise(condition if B > 1 else _twice(condition), seed)[:B]
            self._drawn[key] = x_BCHW
            self.images, self.seconds = (
                self.images + len(x_BCHW),
                self.seconds + time.perf_counter() - start,
            )
            self.forwards, self.backwards = (
                self.forwards + passes.forwards - forwards,
                self.backwards + passes.backwards - backwards,
            )
        return self._drawn[key]

    @torch.enable_grad()
    def _optimise(self, condition: Condition, seed: int) -> Tensor:
        B, spec = len(condition.label_B), self.classifier.spec
        stream, shifts = Stream(seed, self.device), random.Random(seed)
        image = PARAMETRISATIONS[self.parametrisation](spec.channels, spec.image_size, self.device)
        theta = (self.init_std * stream.normal(B, *image.shape)).requires_grad_()
        optimizer = torch.optim.Adam([theta], self.lr, self.betas)
        self.batches += 1
        recent: list[Tensor] = []
        start = time.perf_counter()
        for step in range(1, self.steps + 1):
            optimizer.param_groups[0]["lr"] = self.lr * self._share_of_lr(step)
            with self.autocast():
                total, values_V = self._values(image(theta), condition, stream, shifts)
            self._move(
                theta, B * total, optimizer
            )  # total is a mean: an image is moved as far in any batch
            recent.append(values_V)
            if self.batches == 1:
                self.step_seconds.append(time.perf_counter() - start)
            if step % self.log_every == 0 or step == self.steps:
                self._tell(step, torch.stack(recent).cpu(), B)
                recent.clear()
        return image(theta.detach())

    def _move(self, theta: Tensor, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """One step down the gradient; under a scaler a step whose gradient overflows is left out."""
        if self.scaler is None:
            (theta.grad,) = torch.autograd.grad(loss, theta)
            optimizer.step()
            return
        (theta.grad,) = torch.autograd.grad(self.scaler.scale(loss), theta)
        self.scaler.step(optimizer)
        self.scaler.update()

    def _tell(self, step: int, recent_KV: Tensor, batch: int) -> None:
        """Reports the mean over the recent steps, which leave the device here."""
        if self.batches == 1:
            self.accuracies += recent_KV[:, -1].tolist()
        values = dict(zip(self.columns, recent_KV.mean(dim=0).tolist(), strict=True))
        for term, floor in self.objective.floors(batch, self.classifier.feature_dims).items():
            values[names.excess(term)] = values[names.loss(term)] - floor
        self.report(self.batches, step, values)

    def _values(
        self, x_BCHW: Tensor, condition: Condition, stream: Stream, shifts: random.Random
    ) -> tuple[Tensor, Tensor]:
        """The objective's total, and what is reported of the step, [V]."""
        view_BCHW = x_BCHW
        if self.jitter:
            view_BCHW = x_BCHW.roll(
                [shifts.randint(-self.jitter, self.jitter) for _ in range(2)], dims=(2, 3)
            )
        logits_BN, features, normed = self.classifier.trace(self.augmentation(view_BCHW, stream))
        step = Step(
            x_BCHW,
            condition,
            logits_BN,
            features,
            self.classifier,
            nn.Identity(),
            self.perturbation,
            stream,
            normed,
        )
        terms = self.objective(step)
        total = self.objective.total(terms)
        return total, torch.stack([*terms.values(), total, self._success(step)]).detach()

    def _success(self, step: Step) -> Tensor:
        """How far the images are, beside the objective: the share that the classifier takes for their labels."""
        return (step.logits_BN.argmax(dim=1) == step.condition.label_B).float().mean()

    def _share_of_lr(self, step: int) -> float:
        return (
            self.final_lr
            + (1 - self.final_lr) * (1 + math.cos(math.pi * (step - 1) / self.steps)) / 2
        )


def _twice(condition: Condition) -> Condition:
    vector_BN, matrix_B1SS = condition.vector_BN, condition.matrix_B1SS
    return replace(
        condition,
        label_B=condition.label_B.repeat(2),
        target_BN=condition.target_BN.repeat(2, 1),
        vector_BN=None if vector_BN is None else vector_BN.repeat(2, 1),
        matrix_B1SS=None if matrix_B1SS is None else matrix_B1SS.repeat(2, 1, 1, 1),
    )
