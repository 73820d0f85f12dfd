"""How a run tells where it stands: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, RichProgressBar

from netinv_lightning.trainer import on_terminal


class PlainProgress(Callback):
    """A line every ten seconds at most, for logs and batch jobs."""

    def __init__(self, metrics: tuple[str, ...], every_seconds: float = 10.0) -> None:
        self.metrics, self.every_seconds = metrics, every_seconds
        self._last = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if time.monotonic() - self._last >= self.every_seconds:
            self._tell(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._tell(trainer)

    def _tell(self, trainer: L.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        self._last = time.monotonic()
        values = [f"{name} {float(trainer.callback_metrics[name]):.4f}" for name in self.metrics if name in trainer.callback_metrics]
        steps = trainer.estimated_stepping_batches
        print(f"step {trainer.global_step}/{steps}  {'  '.join(values)}", file=sys.stderr, flush=True)


def progress(metrics: tuple[str, ...]) -> list[Callback]:
    if on_terminal():
        return [RichProgressBar(leave=True)]
    return [PlainProgress(metrics)]
