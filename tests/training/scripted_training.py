"""A training of one weight that logs given values, for tests of callbacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from netinv_lightning.inversion.training import Steps
from netinv_lightning.training.trainer import expected_warnings

METRIC = "example/score"


class ScriptedModule(L.LightningModule):
    """Logs one of `values` at each step, and has the number of the step as its weight."""

    def __init__(self, values: Sequence[float]) -> None:
        super().__init__()
        self.values = values
        self.weight = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.log(METRIC, self.values[batch_idx], logger=False)
        return 1 * self.weight

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0, maximize=True)


def train(module: ScriptedModule, callbacks: list[Callback]) -> L.Trainer:
    """Train the module for as many steps as it has values."""
    trainer = L.Trainer(
        max_steps=len(module.values),
        callbacks=callbacks,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any("Checkpoint" in type(one).__name__ for one in callbacks),
    )
    with expected_warnings():
        trainer.fit(module, train_dataloaders=Steps(len(module.values)))
    return trainer
