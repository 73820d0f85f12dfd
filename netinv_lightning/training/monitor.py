"""Early stopping and the best checkpoint of a training, by a metric that it logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from netinv_lightning.config.monitor_schema import MonitorConfig
from netinv_lightning.errors import InputError, nearest
from netinv_lightning.training.progress import print_progress

BEST = "best"
"""Name of the best checkpoint, without its extension."""


def monitor_callbacks(
    options: MonitorConfig, checkpoints: Path, every: int | None = None
) -> list[Callback]:
    """Return the callbacks of a training that `monitor` describes; none without a metric.

    Args:
        options: The config keys `monitor`.
        checkpoints: The folder of the run's checkpoints.
        every: Steps between two checks; None for a check after each validation.
    """
    if options.metric is None:
        return []
    callbacks: list[Callback] = [MetricCheck(options.metric, every)]
    if options.patience is not None:
        callbacks.append(StepEarlyStopping(options, every))
    if options.keep_best:
        callbacks.append(
            ModelCheckpoint(
                checkpoints,
                filename=BEST,
                monitor=options.metric,
                mode=options.mode,
                every_n_train_steps=every,
                save_weights_only=True,
                enable_version_counter=False,
            )
        )
    return callbacks


class MetricCheck(Callback):
    """Refuses a metric that a training does not log, at the first check.

    Args:
        metric: Name of the metric.
        every: Steps until the check; None for the first validation.
    """

    def __init__(self, metric: str, every: int | None) -> None:
        self.metric, self.every = metric, every

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.every:
            self._check(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.every is None:
            self._check(trainer)

    def _check(self, trainer: L.Trainer) -> None:
        logged = trainer.callback_metrics
        if self.metric not in logged:
            raise InputError(
                f"monitor.metric={self.metric}: the training logs no such metric; "
                f"{nearest(self.metric, map(str, logged))}"
            )


class StepEarlyStopping(EarlyStopping):
    """Lightning's early stopping, for trainings with checks at steps instead of validations.

    Args:
        options: The config keys `monitor`.
        every: Steps between two checks; None for a check after each validation.
    """

    def __init__(self, options: MonitorConfig, every: int | None) -> None:
        assert options.metric is not None
        assert options.patience is not None
        super().__init__(
            options.metric,
            min_delta=options.min_delta,
            patience=options.patience,
            mode=options.mode,
            check_on_train_epoch_end=False,
        )
        self.every = every

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        if self.every is not None and trainer.global_step % self.every == 0:
            super().on_validation_end(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.every is None:
            super().on_validation_end(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.should_stop and trainer.is_global_zero:
            print_progress(
                f"stopped early at step {trainer.global_step}: {self.monitor} has not been better "
                f"than {float(self.best_score):.4f} in {self.wait_count} checks"
            )


def load_best(module: L.LightningModule, checkpoints: Path) -> None:
    """Load the best weights into a trained module, if its training has kept them."""
    path = checkpoints / f"{BEST}.ckpt"
    if path.is_file():
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(state, strict=False)
