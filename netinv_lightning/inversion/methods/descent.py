"""Gradient descent on images: one loop for pixels, targets and KKT candidates.

Shape suffixes: B batch, C channels, H height, W width, V values of a step, K steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn
from torch.optim import Optimizer

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.inversion.base import FitContext, NonFiniteError
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.cost import Cost, CostMeter, first_reached
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.memory_format import in_channels_last
from netinv_lightning.training.progress import Clock, StepReport
from netinv_lightning.training.schedules import cosine_share

Score = Callable[[int], tuple[Tensor, Tensor]]
"""Function of the step number that returns the loss and the values to log, [V]."""

Report = Callable[[int, int, Mapping[str, float]], None]
"""Function that is called with the batch number, the step, and the mean values since the last
report, by name."""


class Descent:
    """The optimisation of one batch.

    Args:
        optimizer: Holds the tensors that are optimised; the learning rates of its groups are the
            highest ones.
        steps: Steps of the optimisation.
        final_lr: Learning rate of the last step as a share of the highest one, along a cosine.
        log_every: Steps between two reports.
        meter: Measures the seconds.
        scaler: Scales the loss under float16, in which small gradients vanish.

    Attributes:
        recent: Values [V] of the steps since the last report.
        successes: The last value of each reported step.
        step_seconds: Seconds at the end of each step.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        steps: int,
        final_lr: float,
        log_every: int,
        meter: CostMeter,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.optimizer, self.steps, self.final_lr = optimizer, steps, final_lr
        self.log_every, self.meter, self.scaler = log_every, meter, scaler
        self.parameters = [x for group in optimizer.param_groups for x in group["params"]]
        self.highest_lr = [group["lr"] for group in optimizer.param_groups]
        self.recent: list[Tensor] = []
        self.successes: list[float] = []
        self.step_seconds: list[float] = []

    def run(
        self,
        score: Score,
        report: Callable[[int, Tensor], None],
        project: Callable[[], object] = lambda: None,
        first: int = 0,
        done: Callable[[int], None] = lambda step: None,
    ) -> None:
        """Run the optimisation.

        Args:
            score: The loss of a step.
            report: Called with the step and the recent values [K, V], on the CPU.
            project: Projects the tensors onto the allowed range after each step.
            first: Number of steps that a resumed run has already taken.
            done: Called with the number of each finished step.
        """
        for step in range(first + 1, self.steps + 1):
            self._set_lr(step)
            loss, values_V = score(step)
            self._move(loss)
            with torch.no_grad():
                project()
            self.recent.append(values_V.detach())
            self.step_seconds.append(self.meter.seconds)
            if step % self.log_every == 0 or step == self.steps:
                recent_KV = torch.stack(self.recent).cpu()
                self.recent.clear()
                self.successes += recent_KV[:, -1].tolist()
                report(step, recent_KV)
            done(step)

    def state_dict(self) -> dict[str, Any]:
        """Return the cost and the values so far, for a checkpoint beside the optimiser's state."""
        return {
            "costs": self.meter.state(),
            "accuracies": self.successes,
            "step_seconds": self.step_seconds,
            "recent": self.recent,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.meter.restore(state_dict["costs"])
        self.successes[:] = state_dict["accuracies"]
        self.step_seconds[:] = state_dict["step_seconds"]
        device = self.parameters[0].device
        self.recent[:] = [values_V.to(device) for values_V in state_dict["recent"]]

    def _set_lr(self, step: int) -> None:
        share = cosine_share(math.pi * (step - 1) / self.steps, self.final_lr)
        for group, lr in zip(self.optimizer.param_groups, self.highest_lr, strict=True):
            group["lr"] = lr * share

    def _move(self, loss: Tensor) -> None:
        """Take one step; with a scaler, a step whose gradient overflows is skipped."""
        scaled = loss if self.scaler is None else self.scaler.scale(loss)
        gradients = torch.autograd.grad(scaled, self.parameters)
        for x, gradient in zip(self.parameters, gradients, strict=True):
            x.grad = gradient
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()


class DescentInversion:
    """A method without a generator: images are optimised when they are drawn.

    Args:
        conditioning: Draws the conditions of each batch.
        classifier: The network to invert; it is never changed.
        objective: The weighted loss terms.
        steps: Steps of the optimisation of each batch.
        lr: Highest learning rate.
        init_std: Standard deviation of the first images.
        log_every: Steps between two reports.

    Raises:
        ValueError: if a value is out of range. The message starts with `<argument>=<value>:`.
    """

    generators = nn.ModuleList()
    n_generators = 1
    max_images: int | None = None

    betas = (0.9, 0.999)
    """Decay rates of Adam."""
    eps = 1e-8
    """Added to Adam's denominator."""
    final_lr = 1.0
    """Learning rate of the last step as a share of `lr`."""
    success = names.INVERSION_ACCURACY_TRAIN
    """The metric that is logged in addition to the objective."""
    shown: tuple[str, ...] = (names.INVERSION_ACCURACY_TRAIN, names.LOSS_TOTAL)
    """The metrics in a line of progress."""
    mixed_precision = False
    """Whether the forward pass runs in the precision of the Trainer instead of float32."""
    lr_key = "method.lr"
    """The config key of the learning rate."""

    def __init__(
        self,
        conditioning: Conditioning,
        classifier: FrozenClassifier,
        objective: Objective,
        steps: int,
        lr: float,
        init_std: float,
        log_every: int,
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps={steps}: must be 1 or more")
        if not 0 < lr < math.inf:
            raise ValueError(f"lr={lr}: must be above 0")
        if not 0 <= init_std < math.inf:
            raise ValueError(f"init_std={init_std}: must be 0 or more")
        self.conditioning, self.classifier, self.objective = conditioning, classifier, objective
        self.steps, self.lr, self.init_std, self.log_every = steps, lr, init_std, log_every
        self.columns = objective.columns(self.success)
        self.report: Report = lambda batch, step, values: None
        self.autocast: Callable[[], AbstractContextManager[object]] = nullcontext
        self.scaler: torch.amp.GradScaler | None = None
        self.batches = 0
        self.images, self.seconds, self.forwards, self.backwards = 0, 0.0, 0, 0
        self.accuracies: list[float] = []  # of each step of the first batch
        self.step_seconds: list[float] = []  # of the first batch

    @property
    def device(self) -> torch.device:
        return self.classifier.mean_C11.device

    def fit(self, run: FitContext) -> None:
        """Move the classifier to the Trainer's device; nothing is trained."""
        if run.channels_last:
            in_channels_last(self.classifier)
        if run.compile:
            self.classifier.network.compile()
        trainer = run.make_trainer(callbacks=[], loggers=[], enable_checkpointing=False)
        self.classifier.to(trainer.strategy.root_device)
        if self.mixed_precision:
            precision = trainer.precision_plugin
            self.autocast = precision.forward_context
            self.scaler = getattr(precision, "scaler", None)
        self.report = BatchReport(run.loggers, self.steps, self.shown, self.lr_key)

    def cost(self) -> Cost:
        """Return the cost of the images drawn so far; `reached` is that of the first batch."""
        return Cost(
            steps=len(self.step_seconds),
            seconds=self.seconds,
            image_steps=self.images * self.steps,
            forwards=self.forwards,
            backwards=self.backwards,
            reached=first_reached(self.accuracies, self.step_seconds),
        )

    def metrics(self) -> dict[str, float]:
        """Return no metrics of the method's own."""
        return {}

    def load(self, directory: Path, channels_last: bool) -> None:
        """Restore nothing: images are optimised again when they are drawn."""

    def optimizer(self, groups: list[dict[str, Any]]) -> Optimizer:
        """Return the optimiser of a batch, Adam by default."""
        return torch.optim.Adam(groups, betas=self.betas, eps=self.eps)

    def _start_batch(self, groups: list[dict[str, Any]], meter: CostMeter) -> Descent:
        """Return the optimisation of the next batch.

        Args:
            groups: Groups of the optimiser, each with `params` and its highest `lr`.
            meter: Measures its cost.
        """
        self.batches += 1
        descent = Descent(
            self.optimizer(groups), self.steps, self.final_lr, self.log_every, meter, self.scaler
        )
        if self.batches == 1:
            self.accuracies, self.step_seconds = descent.successes, descent.step_seconds
        return descent

    def _near_mean(self, images: int, seed: int) -> Tensor:
        """Draw pixels [images, C, H, W] about the mean training pixel, by `init_std`."""
        noise_BCHW = Stream(seed, self.device).normal(images, *self.classifier.spec.shape)
        return (self.classifier.mean_C11 + self.init_std * noise_BCHW).clamp(0, 1)

    def _add_cost(self, images: int, meter: CostMeter) -> None:
        self.images += images
        self.seconds += meter.seconds
        self.forwards += meter.forwards
        self.backwards += meter.backwards

    def _report(self, step: int, recent_KV: Tensor, images: int) -> None:
        """Report the mean values of the recent steps of a batch of `images`."""
        values = self.objective.named_values(
            self.columns, recent_KV.mean(dim=0), images, self.classifier.feature_dims
        )
        self.report(self.batches, step, values)


class BatchReport:
    """Logs the optimisation of the first batch, and prints the progress of each batch.

    Args:
        loggers: Loggers of the first batch.
        steps: Steps of each batch.
        shown: Metrics in a line.
        lr_key: The config key that the error for non-finite values names.
    """

    def __init__(
        self, loggers: Sequence[Logger], steps: int, shown: Sequence[str], lr_key: str
    ) -> None:
        self.loggers, self.steps, self.shown, self.lr_key = loggers, steps, shown, lr_key
        self.clock = Clock()

    def __call__(self, batch: int, step: int, values: Mapping[str, float]) -> None:
        if bad := [name for name, value in values.items() if not math.isfinite(value)]:
            raise NonFiniteError(
                f"{', '.join(bad)} is not finite at step {step} of batch {batch}; "
                f"try a smaller {self.lr_key}"
            )
        report = StepReport(
            label=f"images: batch {batch}, ",
            steps=self.steps,
            shown=self.shown,
            loggers=self.loggers if batch == 1 else (),
            clock=self.clock,
        )
        report(step, values)
