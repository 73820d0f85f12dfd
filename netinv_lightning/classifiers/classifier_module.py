"""Ordinary training of a classifier: the LightningModule.

Shape suffixes: B batch, C channels, H height, W width, N classes.
"""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.training.distributed import world_size
from netinv_lightning.training.gradient_steps import decay_groups, decayed_weights
from netinv_lightning.training.schedules import one_cycle


class ClassifierModule(L.LightningModule):
    """Trains a classifier with cross-entropy and a one-cycle learning rate.

    Args:
        classifier: The classifier to train.
        optimizer: `sgd` (Nesterov) or `adamw`.
        lr: Highest learning rate.
        momentum: Momentum of `sgd`.
        weight_decay: Weight decay of matrices and kernels; none is applied to biases and BatchNorm.
        l1: Weight of the sum of absolute weights.
        label_smoothing: Share of the target that is spread over all classes.
        warmup: Share of the steps in which the learning rate rises.
    """

    def __init__(
        self,
        classifier: Classifier,
        optimizer: str = "sgd",
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        l1: float = 0.0,
        label_smoothing: float = 0.1,
        warmup: float = 0.25,
    ) -> None:
        super().__init__()
        if optimizer not in ("sgd", "adamw"):
            raise ValueError(f"optimizer={optimizer}: choose sgd or adamw")
        for name, share in (("label_smoothing", label_smoothing), ("warmup", warmup)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name}={share}: must be from 0 to 1")
        for name, weight in (("momentum", momentum), ("weight_decay", weight_decay), ("l1", l1)):
            if not 0 <= weight < math.inf:
                raise ValueError(f"{name}={weight}: must be a finite number, 0 or more")
        self.classifier = classifier
        self.optimizer, self.lr, self.momentum, self.weight_decay = (
            optimizer,
            lr,
            momentum,
            weight_decay,
        )
        self.l1, self.label_smoothing, self.warmup = l1, label_smoothing, warmup
        # Weights of the classes in the cross-entropy; None for equal weights.
        self.class_weights_N: Tensor | None = None
        # Steps of the learning rate's cycle; None to use the Trainer's estimate.
        self.total_steps: int | None = None
        self.val_accuracy = MulticlassAccuracy(classifier.spec.num_classes, average="micro")
        self.test_accuracy = self.val_accuracy.clone()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x_BCHW, y_B = batch
        targets = self.targets(x_BCHW, y_B)
        loss = F.cross_entropy(
            self.classifier(x_BCHW),
            targets,
            self.class_weights_N,
            label_smoothing=self.label_smoothing,
        )
        if self.l1:
            decayed = decayed_weights(self.classifier).values()
            loss = loss + self.l1 * sum(weight.abs().sum() for weight in decayed)
        several = world_size() > 1  # each has the loss of its share of the batch
        self.log(names.CLASSIFIER_LOSS, loss.detach(), prog_bar=True, sync_dist=several)
        return loss

    def targets(self, x_BCHW: Tensor, y_B: Tensor) -> Tensor:
        """Return the targets of the cross-entropy: labels [B]; a subclass may return [B, N]."""
        return y_B

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x_BCHW, y_B = batch
        self.val_accuracy(self.classifier(x_BCHW), y_B)
        self.log(names.CLASSIFIER_VAL_ACCURACY, self.val_accuracy, prog_bar=True)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x_BCHW, y_B = batch
        self.test_accuracy(self.classifier(x_BCHW), y_B)
        self.log(names.CLASSIFIER_TEST_ACCURACY, self.test_accuracy)

    def configure_optimizers(self) -> dict[str, Any]:
        groups = decay_groups(self.classifier, self.weight_decay)
        optimizer = make_optimizer(self.optimizer, groups, self.lr, self.momentum)
        steps = self.total_steps or int(self.trainer.estimated_stepping_batches)
        schedule = one_cycle(optimizer, self.lr, steps, self.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def make_optimizer(
    name: str, groups: list[dict[str, Any]], lr: float, momentum: float
) -> torch.optim.Optimizer:
    """Return the optimiser of a recipe: `sgd` (Nesterov) or `adamw`, which has no `momentum`."""
    if name == "sgd":
        return torch.optim.SGD(groups, lr, momentum, nesterov=momentum > 0)
    return torch.optim.AdamW(groups, lr)
