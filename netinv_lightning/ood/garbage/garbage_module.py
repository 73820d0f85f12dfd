"""Training of a classifier with a garbage class that grows after every epoch.

Suhail, Tang and Sethi 2024 (arXiv 2411.17777, section 5.2).

Shape suffixes: n images, B batch, C channels, H height, W width, M classes with garbage last.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.classifier_module import ClassifierModule
from netinv_lightning.classifiers.features import extract_logits
from netinv_lightning.classifiers.frozen import BATCH_NORMS, FrozenClassifier
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.data.batches import Batches
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.pixels import to_uint8
from netinv_lightning.ood.garbage.garbage_sources import GarbageSource, random_zoom
from netinv_lightning.training.seeds import epoch_seed


class GarbageModule(ClassifierModule):
    """Trains on images and garbage, with class weights that follow the counts.

    The random draws of an epoch depend only on the seed and the number of the epoch, so that a
    resumed run makes the same draws.

    Args:
        classifier: Classifier with M classes, which is trained.
        data: In-distribution data, with its splits, batch size and augmentation.
        garbage_nCHW: Garbage of the first epoch, uint8.
        source: Source of the garbage that each epoch adds.
        teacher: The plain classifier, whose probabilities are mixed into the labels of training
            images.
        epochs: Number of epochs; the last one adds no garbage.
        seed: Seed of every draw.
        on_epoch: Called with the number of each epoch and its metrics.
        teacher_share: Share of the teacher in the labels, 0 to 1.
        balance: `all` for `count_weights`, `garbage` for `garbage_weights`.
        garbage_weight: Weight of garbage, relative to another class.
        keep_batch_norm: Keep the BatchNorm statistics instead of updating them.
        zoom: Add a random crop of each new garbage image, enlarged 1 to `zoom` times; 1 for none.
        images: Largest number of training images per epoch; None for all.
        recipe: Arguments of `ClassifierModule`.
    """

    def __init__(
        self,
        classifier: Classifier,
        data: ImageDataModule,
        garbage_nCHW: Tensor,
        source: GarbageSource,
        teacher: FrozenClassifier,
        *,
        epochs: int,
        seed: int,
        on_epoch: Callable[[int, dict[str, float]], None],
        teacher_share: float = 0.0,
        balance: str = "all",
        garbage_weight: float = 1.0,
        keep_batch_norm: bool = False,
        zoom: float = 1.0,
        images: int | None = None,
        **recipe: Any,
    ) -> None:
        super().__init__(classifier, **recipe)
        self.data, self.garbage_nCHW, self.source = data, garbage_nCHW, source
        self.teacher, self.teacher_share = teacher, teacher_share
        self.epochs, self.seed, self.on_epoch = epochs, seed, on_epoch
        self.balance, self.garbage_weight = balance, garbage_weight
        self.keep_batch_norm, self.zoom, self.images = keep_batch_norm, zoom, images
        self.strict_loading = False  # checkpoints do not contain the teacher

    @property
    def garbage(self) -> int:
        """The label of the garbage class."""
        return self.classifier.spec.num_classes - 1

    def planned_steps(self, per_epoch: int) -> int:
        """Return the steps of the whole training if each epoch adds `per_epoch` images."""
        if self.zoom > 1:
            per_epoch *= 2
        own = min(len(self.data.train[1]), self.images or sys.maxsize)
        counts = [own + len(self.garbage_nCHW) + epoch * per_epoch for epoch in range(self.epochs)]
        return sum(
            len(
                Batches(
                    (torch.empty(0), torch.empty(count)),
                    self.data.batch_size,
                    False,
                    drop_last=True,
                )
            )
            for count in counts
        )

    def train_dataloader(self) -> Batches:
        self._seed()  # the order is drawn when the first batch of the epoch is requested
        images_nCHW, label_n = self.data.train
        if self.images is not None:
            chosen_n = torch.randperm(len(label_n))[: self.images]
            images_nCHW, label_n = images_nCHW[chosen_n], label_n[chosen_n]
        label_n = torch.cat([label_n, torch.full((len(self.garbage_nCHW),), self.garbage)])
        weights = count_weights if self.balance == "all" else garbage_weights
        weight_M = weights(label_n, self.garbage + 1)
        weight_M[self.garbage] *= self.garbage_weight
        self.class_weights_N = weight_M.to(self.device)
        return Batches(
            (torch.cat([images_nCHW, self.garbage_nCHW]), label_n),
            self.data.batch_size,
            shuffle=True,
            drop_last=True,
        )

    def targets(self, x_BCHW: Tensor, y_B: Tensor) -> Tensor:
        """Return labels [B], or probabilities [B, M] with a share of the teacher.

        The labels of garbage are not mixed.
        """
        if not self.teacher_share:
            return y_B
        with torch.no_grad():
            teacher_BM = F.pad(self.teacher(x_BCHW).softmax(dim=1), (0, 1))
        label_BM = F.one_hot(y_B, self.garbage + 1).to(teacher_BM.dtype)
        share_B1 = self.teacher_share * (y_B != self.garbage).to(teacher_BM.dtype)[:, None]
        return torch.lerp(label_BM, teacher_BM, share_B1)

    def val_dataloader(self) -> Batches:
        return self.data.val_dataloader()

    def on_after_batch_transfer(
        self, batch: tuple[Tensor, Tensor], dataloader_idx: int
    ) -> tuple[Tensor, Tensor]:
        return self.data.prepare_batch(batch, self.trainer.training)

    def on_train_epoch_start(self) -> None:
        self._seed()  # of augmentation and dropout
        if self.keep_batch_norm:
            for module in self.classifier.modules():
                if isinstance(module, BATCH_NORMS):
                    module.eval()

    def on_train_epoch_end(self) -> None:
        epoch, metrics = self.current_epoch, {"images": float(len(self.garbage_nCHW))}
        if len(self.data.val[1]):
            metrics["val_accuracy"] = float(
                self.trainer.callback_metrics[names.CLASSIFIER_VAL_ACCURACY]
            )
        if epoch + 1 < self.epochs:
            self.classifier.eval()
            added_nCHW = self.source(self.classifier.network, epoch)
            if self.zoom > 1:
                enlarged_nCHW = random_zoom(added_nCHW, self.zoom, epoch_seed(self.seed, epoch))
                added_nCHW = torch.cat([added_nCHW, enlarged_nCHW])
            metrics["already_rejected"] = self._rejected_share(added_nCHW)
            self.classifier.train()
            self.garbage_nCHW = torch.cat([self.garbage_nCHW, to_uint8(added_nCHW)])
        self.on_epoch(epoch, metrics)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the state of the trained classifier, without the teacher."""
        return {
            name: value
            for name, value in super().state_dict(*args, **kwargs).items()
            if not name.startswith("teacher.")
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["garbage"], checkpoint["generators"] = self.garbage_nCHW, self.source.generators

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.garbage_nCHW = checkpoint["garbage"]
        self.source.generators = checkpoint["generators"]

    @torch.no_grad()
    def _rejected_share(self, images_nCHW: Tensor) -> float:
        """Return the share of images that the current classifier classifies as garbage."""
        predicted_n = extract_logits(self.classifier, images_nCHW, batch_size=250).argmax(dim=1)
        return float((predicted_n == self.garbage).float().mean())

    def _seed(self) -> None:
        epoch = self.current_epoch if self._trainer is not None else 0
        torch.manual_seed(epoch_seed(self.seed, epoch))


def count_weights(label_n: Tensor, classes: int) -> Tensor:
    """Return class weights [M] of the loss, n / (M count), so that all classes have equal weight.

    Suhail, Tang and Sethi 2024 (arXiv 2411.17777, section 5.2): "weights to each class, which are
    dynamically adjusted after each epoch to reflect the evolving class distribution". A class
    without images has weight 0.
    """
    count_M = torch.bincount(label_n, minlength=classes)
    return torch.where(count_M > 0, len(label_n) / (classes * count_M.clamp_min(1)), 0.0)


def garbage_weights(label_n: Tensor, classes: int) -> Tensor:
    """Return class weights [M] of the loss that balance garbage only.

    Garbage, the last class, gets the mean total weight of the other classes, whose weights are 1.
    Unlike with `count_weights`, the other classes keep the frequencies that a trained classifier
    has learnt.
    """
    garbage = int((label_n == classes - 1).sum())
    weight_M = torch.ones(classes)
    weight_M[-1] = (len(label_n) - garbage) / ((classes - 1) * max(garbage, 1))
    return weight_M
