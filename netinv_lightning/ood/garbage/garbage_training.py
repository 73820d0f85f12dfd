"""Training of one classifier with a garbage class in a run, with its checkpoint, card and figure.

Shape suffixes: n images, R rows, K columns, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.checkpoints import (
    broken_weight,
    fill,
    load_weights,
    read_card,
    save_classifier,
)
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.noise import gaussian_noise
from netinv_lightning.data.pixels import to_uint8, to_unit_range
from netinv_lightning.figures import image_grid
from netinv_lightning.ood.detectors.saved_detectors import garbage_path
from netinv_lightning.ood.garbage.extended_network import copy_trained_weights
from netinv_lightning.ood.garbage.garbage_module import GarbageModule
from netinv_lightning.ood.garbage.garbage_sources import GarbageSource, noise_seed
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.tracking.loggers import log_image
from netinv_lightning.training.checkpoints import Checkpoints, fitting_state
from netinv_lightning.training.progress import PlainProgress, print_progress
from netinv_lightning.training.trainer import expected_warnings

SHOWN_IMAGES = 20
"""Largest number of images per row of the figure."""


@dataclass
class GarbageTraining:
    """Trains one classifier with a garbage class; see `build.build_garbage_training`.

    Attributes:
        name: Name of the garbage classifier.
        classifier: The plain classifier.
        data: Its data.
        network: The network with one class more, which is trained.
        frozen: The frozen classifier of this network.
        source: Source of the garbage that each epoch adds.
        per_epoch: Images that the source adds per epoch.
        per_class: Images per class among them.
        initial: Images of Gaussian noise in the first epoch.
        epochs: Number of epochs.
        start_trained: Start from the weights of the plain classifier, not from new ones.
        options: Options of `GarbageModule`.
        recipe: Arguments of `ClassifierModule`.
        channels_last: Train in the channels-last memory format.
        make_trainer: Makes a `Trainer` from keyword arguments.
        card: The model card.
        seed: Seed of every draw.
    """

    name: str
    classifier: FrozenClassifier
    data: ImageDataModule
    network: nn.Module
    frozen: FrozenClassifier
    source: GarbageSource
    per_epoch: int
    per_class: int
    initial: int
    epochs: int
    start_trained: bool
    options: dict[str, Any]
    recipe: dict[str, Any]
    channels_last: bool
    make_trainer: Callable[..., Trainer]
    card: dict[str, Any]
    seed: int

    def run(self, run_dir: RunDir, loggers: list[Logger]) -> FrozenClassifier:
        """Train the classifier, or continue a stopped training; save it with its card.

        Raises:
            RuntimeError: if a trained weight is not finite.
        """
        path = garbage_path(run_dir.path, self.name)
        if run_dir.resuming and path.with_suffix(".json").is_file():
            print_progress(f"garbage {self.name}  trained before: {path}")
        else:
            self._train(run_dir, loggers)
            if broken := broken_weight(self.network):
                raise RuntimeError(
                    f"garbage.{self.name}: {broken} is not finite after the training; "
                    f"reduce garbage.{self.name}.lr={self.recipe['lr']}"
                )
            save_classifier(path, self.network, self.card)
        read_card(path)
        fill(self.network, load_weights(path), str(path))
        return self.frozen.requires_grad_(False).eval()

    def _train(self, run_dir: RunDir, loggers: list[Logger]) -> None:
        if self.start_trained:
            copy_trained_weights(self.network, self.classifier.network.cpu())
        noise_nCHW = gaussian_noise(
            self.classifier.spec.shape, self.initial, noise_seed(self.seed, epoch=0)
        )
        module = GarbageModule(
            Classifier(self.network, self.frozen.spec, like=self.frozen),
            self.data,
            to_uint8(noise_nCHW),
            self.source,
            self.classifier,
            epochs=self.epochs,
            seed=self.seed,
            on_epoch=self._log_epoch(loggers),
            **self.options,
            **self.recipe,
        )
        if self.channels_last:
            module = module.to(memory_format=torch.channels_last)
        module.total_steps = module.planned_steps(self.per_epoch)
        checkpoints = Checkpoints(run_dir.checkpoints, every=None, stem=self.name)
        progress = PlainProgress(
            (names.CLASSIFIER_LOSS,), f"garbage {self.name}  training ", module.total_steps
        )
        trainer = self.make_trainer(
            callbacks=[progress, checkpoints],
            loggers=[],
            max_epochs=self.epochs,
            reload_dataloaders_every_n_epochs=1,  # because the garbage grows
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if len(self.data.val[1]) else 0,
        )
        last = checkpoints.last if run_dir.resuming and checkpoints.last.is_file() else None
        if last is not None:
            fitting_state(module, last)
        with expected_warnings():
            trainer.fit(module, ckpt_path=last, weights_only=True)
        x_RKCHW, rows = self._figure_rows(module.garbage_nCHW)
        path = run_dir.figures / f"garbage_{self.name}.png"
        figure = image_grid(x_RKCHW, rows, path, f"Garbage of {self.name}")
        caption = f"Garbage of {self.name}, epoch by epoch"
        log_image(loggers, names.figure(figure.stem), figure, 0, caption)

    def _figure_rows(self, garbage_nCHW: Tensor) -> tuple[Tensor, list[str]]:
        """Return the first images of each epoch, [R, K, C, H, W], and the names of the rows."""
        K = min(self.initial, self.per_epoch // self.per_class, SHOWN_IMAGES)
        rows, row_names, begin = [garbage_nCHW[:K]], ["initial"], self.initial
        for epoch in range(1, self.epochs):
            for name in (f"epoch {epoch}", *(["enlarged"] if self.options["zoom"] > 1 else [])):
                rows.append(garbage_nCHW[begin : begin + K])
                row_names.append(name)
                begin += self.per_epoch
        return to_unit_range(torch.stack(rows)), row_names

    def _log_epoch(self, loggers: list[Logger]) -> Callable[[int, dict[str, float]], None]:
        def log_epoch(epoch: int, metrics: dict[str, float]) -> None:
            values = "  ".join(f"{what} {value:g}" for what, value in metrics.items())
            print_progress(f"garbage {self.name}  epoch {epoch + 1}/{self.epochs} done  {values}")
            for logger in loggers:
                logger.log_metrics(
                    {names.garbage(self.name, what): value for what, value in metrics.items()},
                    step=epoch,
                )

        return log_epoch
