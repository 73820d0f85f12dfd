"""The training of a classifier with a garbage class that grows after every epoch.

Shape suffixes: n images, B batch, C channels, H height, W width, M classes, garbage the last.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import BATCH_NORMS, Classifier, FrozenClassifier
from netinv_lightning.classifiers.training import ClassifierModule
from netinv_lightning.config.schema import Garbage
from netinv_lightning.data.augmentation import shift_and_flip
from netinv_lightning.data.datamodule import Batches, ImageDataModule
from netinv_lightning.ood.garbage.source import Source, as_bytes, zoomed


class GarbageModule(ClassifierModule):
    """Ordinary training (`ClassifierModule`) on training images and garbage, each epoch with the weights of its counts (A2-12).

    What an epoch draws depends on the seed and its number alone, so a run that goes on at an epoch's end draws what it would have.

    Args:
        classifier: With M classes; it is trained.
        data: The in-distribution data; the splits, the batch size and the augmentation are its own.
        garbage_nCHW: The garbage of the first epoch, uint8.
        source: Of the garbage that each epoch adds.
        teacher: The plain classifier, whose answers the labels of training images are mixed with, by the share `options.distil`.
        options: Keys of the choice: `distil`, `balanced`, `weight`, `batch_norm`, `zoom`, `images` (`config.schema.Garbage`).
        epochs: How many; the last one adds none.
        seed: Of every draw.
        tell: Is given the numbers of each epoch.
        recipe: Arguments of `ClassifierModule`.
    """

    def __init__(
        self,
        classifier: Classifier,
        data: ImageDataModule,
        garbage_nCHW: Tensor,
        source: Source,
        teacher: FrozenClassifier,
        options: Garbage,
        epochs: int,
        seed: int,
        tell: Callable[[int, dict[str, float]], None],
        **recipe: Any,
    ) -> None:
        super().__init__(classifier, **recipe)
        self.data, self.garbage_nCHW, self.source = data, garbage_nCHW, source
        self.teacher, self.options, self.epochs, self.seed, self.tell = (
            teacher,
            options,
            epochs,
            seed,
            tell,
        )
        self.strict_loading = False  # checkpoints do not hold the teacher, which the config names

    @property
    def garbage(self) -> int:
        """The label of the garbage class."""
        return self.classifier.spec.num_classes - 1

    def planned_steps(self, per_epoch: int) -> int:
        """Steps of the whole training, where each epoch adds so much garbage."""
        own = min(len(self.data.train[1]), self.options.images or sys.maxsize)
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
        self._seed()  # the order is drawn when the epoch's first batch is asked for
        images_nCHW, label_n = self.data.train
        if self.options.images is not None:
            chosen_n = torch.randperm(len(label_n))[: self.options.images]
            images_nCHW, label_n = images_nCHW[chosen_n], label_n[chosen_n]
        label_n = torch.cat([label_n, torch.full((len(self.garbage_nCHW),), self.garbage)])
        weight_M = (weights_of_counts if self.options.balanced == "all" else weights_of_garbage)(
            label_n, self.garbage + 1
        )
        weight_M[self.garbage] *= self.options.weight
        self.class_weights_N = weight_M.to(self.device)
        return Batches(
            (torch.cat([images_nCHW, self.garbage_nCHW]), label_n),
            self.data.batch_size,
            shuffle=True,
            drop_last=True,
        )

    def targets(self, x_BCHW: Tensor, y_B: Tensor) -> Tensor:
        """Labels [B], or with a share of the teacher's answer probabilities [B, M]; garbage is garbage in either case."""
        if not self.options.distil:
            return y_B
        with torch.no_grad():
            answer_BM = F.pad(self.teacher(x_BCHW).softmax(dim=1), (0, 1))
        label_BM = F.one_hot(y_B, self.garbage + 1).to(answer_BM.dtype)
        share_B1 = self.options.distil * (y_B != self.garbage).to(answer_BM.dtype)[:, None]
        return torch.lerp(label_BM, answer_BM, share_B1)

    def val_dataloader(self) -> Batches:
        return self.data.val_dataloader()

    def on_after_batch_transfer(
        self, batch: tuple[Tensor, Tensor], dataloader_idx: int
    ) -> tuple[Tensor, Tensor]:
        images_BCHW, label_B = batch[0].float() / 255, batch[1]
        if self.trainer.training:
            images_BCHW = shift_and_flip(images_BCHW, self.data.shift, self.data.flip)
        return images_BCHW, label_B

    def on_train_epoch_start(self) -> None:
        self._seed()  # of augmentation and dropout
        if self.options.batch_norm == "kept":
            for module in self.classifier.modules():
                if isinstance(module, BATCH_NORMS):
                    module.eval()

    def on_train_epoch_end(self) -> None:
        epoch, numbers = self.current_epoch, {"images": float(len(self.garbage_nCHW))}
        if len(self.data.val[1]):
            numbers["val_accuracy"] = float(
                self.trainer.callback_metrics[names.CLASSIFIER_VAL_ACCURACY]
            )
        if epoch + 1 < self.epochs:
            self.classifier.eval()
            added_nCHW = self.source(self.classifier.network, epoch)
            if self.options.zoom > 1:
                added_nCHW = torch.cat(
                    [added_nCHW, zoomed(added_nCHW, self.options.zoom, 1009 * self.seed + epoch)]
                )
            numbers["already_rejected"] = self._rejected(added_nCHW)
            self.classifier.train()
            self.garbage_nCHW = torch.cat([self.garbage_nCHW, as_bytes(added_nCHW)])
        self.tell(epoch, numbers)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The trained classifier's alone."""
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
    def _rejected(self, images_nCHW: Tensor) -> float:
        """Share of images that the classifier as it stands takes for garbage."""
        predicted = [
            self.classifier(x_BCHW.to(self.device)).argmax(dim=1).cpu()
            for x_BCHW in images_nCHW.split(250)
        ]
        return float((torch.cat(predicted) == self.garbage).float().mean())

    def _seed(self) -> None:
        torch.manual_seed(
            1009 * self.seed + (self.current_epoch if self._trainer is not None else 0)
        )


def weights_of_counts(label_n: Tensor, classes: int) -> Tensor:
    """Weights [M] of the classes in the loss: n / (M times the count of the class), so that each class weighs as much as another.

    S2 section 5.2: "weights to each class, which are dynamically adjusted after each epoch to reflect the evolving class distribution".
    A class without images has weight 0.
    """
    count_M = torch.bincount(label_n, minlength=classes)
    return torch.where(count_M > 0, len(label_n) / (classes * count_M.clamp_min(1)), 0.0)


def weights_of_garbage(label_n: Tensor, classes: int) -> Tensor:
    """Weights [M] of the classes in the loss: 1, and for garbage, the last, what makes it weigh as much as the others do on average.

    Unlike `weights_of_counts` it leaves the other classes the shares that a trained classifier knows them by.
    """
    garbage = int((label_n == classes - 1).sum())
    weight_M = torch.ones(classes)
    weight_M[-1] = (len(label_n) - garbage) / ((classes - 1) * max(garbage, 1))
    return weight_M
