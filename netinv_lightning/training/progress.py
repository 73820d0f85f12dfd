"""Show the progress of a run: as a live bar on a terminal, otherwise as plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import Logger

from netinv_lightning.errors import printable
from netinv_lightning.training.trainer import on_terminal

EVERY_SECONDS = 10.0
LOG_EVERY = 10


class Clock:
    """Limits progress to one line every ten seconds."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self._last >= EVERY_SECONDS


class StepReport:
    """Reports a training loop: logs its metrics, and prints a line at most every ten seconds.

    The last step is always printed.

    Args:
        label: Start of each line.
        steps: Steps of the whole loop.
        shown: Metrics in a line, by name; missing ones are left out.
        loggers: Loggers of all metrics.
        log_every: Steps between two logged rows.
        clock: Clock that limits the lines, possibly shared with other reports; None for a new one.
    """

    def __init__(
        self,
        label: str,
        steps: int,
        shown: Sequence[str],
        loggers: Sequence[Logger] = (),
        log_every: int = 1,
        clock: Clock | None = None,
    ) -> None:
        self.label, self.steps, self.shown = label, steps, shown
        self.loggers, self.log_every, self.clock = loggers, log_every, clock or Clock()

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        """Report the metrics after a step; steps are counted from 1."""
        if step % self.log_every == 0:
            for logger in self.loggers:
                logger.log_metrics(dict(metrics), step=step)
        if step == self.steps or self.clock.due:
            self.print(step, metrics)

    def print(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Print a line."""
        self.clock.restart()
        values = [f"{name} {float(metrics[name]):.4f}" for name in self.shown if name in metrics]
        print_progress(f"{self.label}step {step}/{self.steps}  {'  '.join(values)}")


def log_progress(
    label: str, steps: int, loggers: Sequence[Logger], metric: str
) -> Callable[[int, float], None]:
    """Return a function that reports step and loss; the loss is logged as `metric`."""
    report = StepReport(f"{label}  ", steps, (metric,), loggers, LOG_EVERY)
    return lambda step, loss: report(step, {metric: loss})


class PlainProgress(Callback):
    """Prints a line at most every ten seconds, for logs and batch jobs.

    Args:
        metrics: Names of the metrics in a line.
        label: Start of each line.
        steps: Steps of the whole training; None for the Trainer's estimate.
    """

    def __init__(self, metrics: tuple[str, ...], label: str = "", steps: int | None = None) -> None:
        self.steps = steps
        self._report = StepReport(label, steps or 0, metrics)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._report.steps = self.steps or int(trainer.estimated_stepping_batches)
        self._report.clock.restart()

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if self._report.clock.due:
            self._print(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._print(trainer)

    def _print(self, trainer: L.Trainer) -> None:
        if trainer.is_global_zero:
            self._report.print(trainer.global_step, trainer.callback_metrics)


def print_progress(line: str) -> None:
    """Print a line of progress to standard error; results are printed to standard output."""
    print(printable(line), file=sys.stderr, flush=True)


def progress(metrics: tuple[str, ...]) -> list[Callback]:
    """Return the callbacks that show the progress of a training with these metrics."""
    if on_terminal():
        return [RichProgressBar(leave=True)]
    return [PlainProgress(metrics)]
