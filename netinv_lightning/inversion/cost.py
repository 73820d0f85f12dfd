"""The cost of an inversion: time, passes through the classifier, steps to success, memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.forward_count import ForwardCount

REACHED = 0.95
"""Inversion accuracy at which the papers call an inversion successful."""
WINDOW = 10
"""Number of consecutive batches whose mean accuracy must reach `REACHED`."""


@dataclass(frozen=True)
class Cost:
    """The cost of fitting and drawing.

    Attributes:
        steps: Optimisation steps of each image, or of the generators.
        seconds: Duration of the optimisation, over all processes of a resumed run.
        image_steps: Images times the steps in which each was optimised.
        forwards: Images passed forward through the classifier.
        backwards: Images whose gradient was passed backward through the classifier.
        reached: Step and seconds at which the training accuracy reached 0.95; None if it never did.
        generator_parameters: Number of weights of one generator; None without a generator.
        earlier_seconds: The part of `seconds` that was spent before the run was resumed.
    """

    steps: int = 0
    seconds: float = 0.0
    image_steps: int = 0
    forwards: int = 0
    backwards: int = 0
    reached: tuple[int, float] | None = None
    generator_parameters: int | None = None
    earlier_seconds: float = 0.0

    def metrics(self, black_box: bool = False) -> dict[str, float]:
        """Return the cost by metric name, with the peak memory of the process so far.

        Args:
            black_box: Whether a forward pass is a query of a black box.
        """
        metrics: dict[str, float] = {
            names.TRAINING_SECONDS: self.seconds,
            names.IMAGES_PER_SECOND: self.image_steps / self.seconds,
            names.CLASSIFIER_FORWARDS: self.forwards,
            names.CLASSIFIER_BACKWARDS: self.backwards,
        }
        if self.generator_parameters is not None:
            metrics[names.GENERATOR_PARAMETERS] = self.generator_parameters
        if self.reached is not None:
            metrics[names.STEPS_TO_95], metrics[names.SECONDS_TO_95] = self.reached
        if black_box:
            metrics[names.QUERIES] = self.forwards
        return metrics | {names.PEAK_MEMORY_MB: peak_memory_mb()}


def first_reached(
    accuracies: Sequence[float], step_seconds: Sequence[float]
) -> tuple[int, float] | None:
    """Return step and seconds at which the mean accuracy of 10 batches first reached 0.95.

    Args:
        accuracies: Accuracy of the batch of each step.
        step_seconds: Seconds from the start until the end of each step.
    """
    if len(accuracies) < WINDOW:
        return None
    means = torch.tensor(accuracies).unfold(0, WINDOW, 1).mean(dim=1)
    reached = (means >= REACHED).nonzero()
    if not len(reached):
        return None
    step = int(reached[0]) + WINDOW
    return step, step_seconds[step - 1]


def peak_memory_mb() -> float:
    """Return the peak memory of this process in MiB, on the GPU if there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


class CostMeter:
    """Measures the seconds and the passes through a classifier since its creation.

    Args:
        passes: The counts of the classifier.
    """

    def __init__(self, passes: ForwardCount) -> None:
        self.passes = passes
        self.restore((0.0, 0, 0))

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

    @property
    def forwards(self) -> int:
        return self.passes.forwards - self._forwards

    @property
    def backwards(self) -> int:
        return self.passes.backwards - self._backwards

    def state(self) -> list[float]:
        """Return seconds, forward and backward passes, for a checkpoint."""
        return [self.seconds, self.forwards, self.backwards]

    def restore(self, state: Sequence[float]) -> None:
        """Continue from the `state` of an earlier process."""
        seconds, forwards, backwards = state
        self._start = time.perf_counter() - seconds
        self._forwards = self.passes.forwards - int(forwards)
        self._backwards = self.passes.backwards - int(backwards)
