"""How a run tells where it stands: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import Logger

from netinv_lightning.errors import printable
from netinv_lightning.training.trainer import on_terminal

EVERY_SECONDS = 10.0
LOG_EVERY = 10


class PlainProgress(Callback):
    """A line every ten seconds at most, for logs and batch jobs.

    Args:
        metrics: Names of the metrics that a line tells.
        label: What a line begins with.
        steps: Of the whole training; None for what the Trainer estimates.
    """

    def __init__(self, metrics: tuple[str, ...], label: str = "", steps: int | None = None) -> None:
        self.metrics, self.label, self.steps = metrics, label, steps
        self._last = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if time.monotonic() - self._last >= EVERY_SECONDS:
            self._tell(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._tell(trainer)

    def _tell(self, trainer: L.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        self._last = time.monotonic()
        values = [
            f"{name} {float(trainer.callback_metrics[name]):.4f}"
            for name in self.metrics
            if name in trainer.callback_metrics
        ]
        steps = self.steps or trainer.estimated_stepping_batches
        tell(f"{self.label}step {trainer.global_step}/{steps}  {'  '.join(values)}")


def tell(line: str) -> None:
    """A line of progress; results go to the standard output, this does not."""
    print(printable(line), file=sys.stderr, flush=True)


def progress(metrics: tuple[str, ...]) -> list[Callback]:
    if on_terminal():
        return [RichProgressBar(leave=True)]
    return [PlainProgress(metrics)]


def log_progress(
    label: str, steps: int, loggers: Sequence[Logger], metric: str
) -> Callable[[int, float], None]:
    """Return a function that takes the number of a step and its loss, and reports them.

    It logs every tenth loss as `metric` and prints a line every ten seconds and after the last step.

    Args:
        label: Start of each line.
        steps: Number of steps in total.
        loggers: Loggers of the run.
        metric: Name of the loss.
    """
    last = time.monotonic()

    def log_step(step: int, loss: float) -> None:
        nonlocal last
        if step % LOG_EVERY == 0:
            for logger in loggers:
                logger.log_metrics({metric: loss}, step=step)
        if step == steps or time.monotonic() - last >= EVERY_SECONDS:
            last = time.monotonic()
            tell(f"{label}  step {step}/{steps}  loss {loss:.4f}")

    return log_step
