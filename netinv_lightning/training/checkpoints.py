"""Write the checkpoint of a training atomically, also when the run is preempted."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from netinv_lightning.errors import InputError, Preempted, one_line
from netinv_lightning.training.trainer import expected_warnings


class Checkpoints(Checkpoint):
    """Writes one checkpoint: at regular steps, when training ends, and on SIGTERM.

    It is written to a temporary file and moved into place, so that a complete checkpoint exists
    even if the run is killed.

    Args:
        folder: The folder of the run's checkpoints.
        every: Steps between two checkpoints. None to write one at the end of each epoch only, and
            none on SIGTERM.
        stem: The file is `<stem>.ckpt`.
        epochs: Whether the training has several epochs with a validation at the end of each. The
            checkpoint of an epoch's last step is then written after the validation.
    """

    def __init__(
        self, folder: Path, every: int | None, stem: str = "last", epochs: bool = False
    ) -> None:
        self.last, self.every, self.epochs = folder / f"{stem}.ckpt", every, epochs or every is None
        # Lightning reads this attribute.
        self.last_model_path = str(self.last) if self.last.is_file() else ""
        self.saved_step: int | None = None
        self._sigterm = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            # This replaces the handler that Lightning has set.
            signal.signal(signal.SIGTERM, self._remember)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        if not (self.epochs and trainer.is_last_batch):
            stopping = self._stopping(trainer)
            if self.every is not None and (stopping or trainer.global_step % self.every == 0):
                self._save(trainer)
            self._stop(trainer, stopping)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.epochs:
            stopping, earlier = self._stopping(trainer), self.saved_step or 0
            if (
                self.every is None
                or stopping
                or trainer.global_step // self.every > earlier // self.every
            ):
                self._save(trainer)
            self._stop(trainer, stopping)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.saved_step != trainer.global_step:
            self._save(trainer)

    def _stopping(self, trainer: L.Trainer) -> bool:
        return (
            trainer.strategy.reduce_boolean_decision(self._sigterm, all=False)
            if trainer.world_size > 1
            else self._sigterm
        )

    def _stop(self, trainer: L.Trainer, stopping: bool) -> None:
        if stopping:
            raise Preempted(f"stopped by SIGTERM after step {trainer.global_step}")

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        self._sigterm = True

    def _save(self, trainer: L.Trainer) -> None:
        if not self.last.parent.parent.is_dir():
            raise FileNotFoundError(2, "the run directory is gone", str(self.last.parent.parent))
        partial = self.last.with_name(f"{self.last.name}.partial")
        trainer.save_checkpoint(partial)  # on every rank; rank 0 writes
        if trainer.is_global_zero:
            os.replace(partial, self.last)
        self.saved_step, self.last_model_path = trainer.global_step, str(self.last)


def fit_from(last: Path | None, trainer: L.Trainer, module: L.LightningModule, **data: Any) -> None:
    """Train a module, from a checkpoint if there is one.

    Args:
        last: The checkpoint; None to train from the start.
        trainer: The Trainer.
        module: The module.
        data: Arguments of `Trainer.fit`: `datamodule` or `train_dataloaders`.

    Raises:
        InputError: as `fitting_state`, before the training starts.
    """
    if last is not None:
        fitting_state(module, last)
    with expected_warnings():
        trainer.fit(module, ckpt_path=last, weights_only=True, **data)


def fitting_state(module: L.LightningModule, path: Path) -> dict[str, Tensor]:
    """Return the weights of a checkpoint, which must be those of the module.

    Raises:
        InputError: if the file is damaged, or has other weights or shapes.
    """
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)[
            "state_dict"
        ]
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    except Exception as error:  # torch raises errors of many kinds for damaged bytes
        raise InputError(
            f"{path}: is not a complete checkpoint ({one_line(error)[:160]}); run it again"
        ) from error
    own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    if wrong := [name for name in {**own, **shapes} if own.get(name) != shapes.get(name)]:
        raise InputError(
            f"{path}: does not match the network in config.yaml ({wrong[0]} is "
            f"{shapes.get(wrong[0], 'missing')} in the file, {own.get(wrong[0], 'missing')} in the "
            f"network; differing tensors: {len(wrong)}); run it again"
        )
    return state
