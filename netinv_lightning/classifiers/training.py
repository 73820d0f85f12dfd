"""Ordinary training of a classifier, as the config describes it.

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig
from torch import nn

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.architecture import build_network, reading_keys, spec_with_keys
from netinv_lightning.classifiers.checkpoints import broken_weight, model_card
from netinv_lightning.classifiers.classifier_module import ClassifierModule
from netinv_lightning.classifiers.features import extract_logits
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.outputs import AUTO
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.config.monitor_schema import MonitorConfig
from netinv_lightning.config.plain import plain_dict
from netinv_lightning.config.validate import check_network_chosen
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.training.batch_norm import batch_norm_over_ranks
from netinv_lightning.training.checkpoints import Checkpoints, fit_from
from netinv_lightning.training.memory_format import in_channels_last
from netinv_lightning.training.monitor import load_best, monitor_callbacks
from netinv_lightning.training.progress import progress
from netinv_lightning.training.snapshots import EVERY, random_state, set_random_state
from netinv_lightning.training.trainer import expected_warnings, make_trainer

MODULE_KEYS = ("optimizer", "lr", "momentum", "weight_decay", "l1", "label_smoothing", "warmup")
"""Keys of `recipe` that are arguments of `ClassifierModule`."""
DATA_KEYS = ("batch_size", "val_fraction", "subset_size", "split_seed", "shift", "flip", "classes")
"""Keys of `data` that a model card contains besides the recipe."""
PROBED = 10_000
"""Largest number of training images on which the training accuracy is measured."""


class DivergedError(RuntimeError):
    """A trained weight is not finite; resuming the training does not help."""


class TrainingHistory(Callback):
    """Seconds and last metrics of a training, including the time before it was resumed.

    A new training in several processes starts with the random numbers of one process.
    """

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self._earlier, self._start = 0.0, time.perf_counter()
        self._random = random_state()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.world_size > 1:  # connecting the processes has drawn random numbers
            set_random_state(self._random)

    @property
    def seconds(self) -> float:
        return self._earlier + time.perf_counter() - self._start

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        metrics = self.metrics | {
            name: float(value) for name, value in trainer.callback_metrics.items()
        }
        checkpoint["so_far"] = {"seconds": self.seconds, "metrics": metrics}

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._earlier, self.metrics = (
            checkpoint["so_far"]["seconds"],
            checkpoint["so_far"]["metrics"],
        )


class ClassifierTraining:
    """Training of `cfg.classifier.network` on `cfg.data` with `cfg.recipe`.

    The constructor reads and checks everything that these sections name; `run` trains. The
    constructor seeds the global random numbers, which initial weights, batches, augmentation and
    dropout use.

    Args:
        cfg: The config.

    Raises:
        InputError: if the data are missing, the network does not fit them, or a value is out of
            range.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        check_network_chosen(cfg)
        self.network_config = plain_dict(cfg.classifier.network)
        self.data = ImageDataModule(**cfg.data)
        spec = spec_with_keys(self.data.spec, cfg.classifier)
        for key in ("channels", "image_size"):
            if getattr(spec, key) != getattr(self.data.spec, key):
                raise InputError(
                    f"classifier.{key}={getattr(spec, key)}: the images have {key}="
                    f"{getattr(self.data.spec, key)}; leave the key out"
                )
        if spec.modality != "images":
            self.data.use_limits_of(spec)
        if spec.num_classes < self.data.spec.num_classes:
            raise InputError(
                f"classifier.num_classes={spec.num_classes}: the data have "
                f"{self.data.spec.num_classes} classes; leave the key out"
            )
        self.seed = recipe_seed(cfg)
        # A classifier that is trained before it is inverted is kept for other runs.
        alone = cfg.application.name == "train_classifier"
        self.monitor = cfg.monitor if alone else MonitorConfig()
        L.seed_everything(self.seed, verbose=False)
        self.network: nn.Module = build_network(self.network_config, spec)
        # The constructor also checks that the shapes fit.
        self.frozen = FrozenClassifier(self.network, spec, **reading_keys(cfg.classifier))
        self.network.train().requires_grad_(True)
        try:
            self.module = ClassifierModule(
                Classifier(self.network, spec, like=self.frozen),
                **{key: cfg.recipe[key] for key in MODULE_KEYS},
            )
        except ValueError as error:
            raise InputError(f"recipe.{one_line(error)}") from error

    def run(
        self,
        loggers: list[Logger],
        checkpoint: Path,
        resuming: bool,
        every: int = EVERY,
        **trainer_defaults: Any,
    ) -> dict[str, float]:
        """Train, then measure the accuracy on the test split.

        Args:
            loggers: Loggers of the metrics.
            checkpoint: File of the checkpoint.
            resuming: Continue from that file if it exists.
            every: Steps between two checkpoints.
            trainer_defaults: Further arguments of `make_trainer`.

        Raises:
            DivergedError: if a trained weight is not finite.
        """
        recipe, data, module = self.cfg.recipe, self.data, self.module
        if recipe.channels_last:
            in_channels_last(module)
        history = TrainingHistory()
        trainer = make_trainer(
            self.cfg,
            callbacks=[
                *progress(
                    (names.CLASSIFIER_LOSS, names.CLASSIFIER_VAL_ACCURACY),
                    "training the classifier",
                ),
                history,
                Checkpoints(checkpoint.parent, every, checkpoint.stem, epochs=True),
                *monitor_callbacks(self.monitor, checkpoint.parent),
            ],
            loggers=loggers,
            max_epochs=recipe.epochs,
            log_every_n_steps=20,
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if len(data.val_indices) else 0,
            **trainer_defaults,
        )
        last = checkpoint if resuming and checkpoint.is_file() else None
        with batch_norm_over_ranks(self.network):
            fit_from(last, trainer, module, datamodule=data)
        if self.monitor.keep_best:
            load_best(module, checkpoint.parent)
        metrics = {names.TRAINING_SECONDS: history.seconds, **history.metrics}
        if broken := broken_weight(self.network):
            raise DivergedError(
                f"the classifier's {broken} is not finite after its training; lower "
                f"recipe.lr={recipe.lr}"
            )
        metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        if len(data.test[1]):
            with expected_warnings():
                metrics |= {
                    name: float(value)
                    for name, value in trainer.test(module, datamodule=data, verbose=False)[
                        0
                    ].items()
                }
        return metrics

    def train_accuracy(self) -> float:
        """Return the accuracy on the first 10,000 training images, without augmentation."""
        (images_nCHW, label_n), classifier = self.data.train, self.module.classifier.eval()
        predicted_n = extract_logits(classifier, images_nCHW[:PROBED], batch_size=500).argmax(dim=1)
        return float((predicted_n == label_n[:PROBED]).double().mean())

    def card(self, name: str, metrics: dict[str, float]) -> dict[str, Any]:
        """Return the model card; `save_classifier` writes it beside the weights."""
        data = plain_dict(self.cfg.data)
        description: dict[str, Any] = {"network": self.network_config}
        if self.cfg.classifier.output is not None:
            description["output"] = self.cfg.classifier.output
        if self.cfg.classifier.output_kind != AUTO:
            description["output_kind"] = self.cfg.classifier.output_kind
        recipe = {str(key): value for key, value in self.cfg.recipe.items() if key != "seed"}
        recipe |= {key: data[key] for key in DATA_KEYS if key != "classes" or data[key] is not None}
        return model_card(
            name,
            self.network,
            spec=self.frozen.spec,
            description=description,
            training_images=len(self.data.train_indices),
            test_images=len(self.data.test[1]),
            test_accuracy=metrics.get(names.CLASSIFIER_TEST_ACCURACY, math.nan),
            seed=self.seed,
            recipe=recipe,
        )


def check_shares(data: ImageDataModule, processes: int) -> None:
    """Check that several processes can share each training batch equally.

    Raises:
        InputError: naming the key.
    """
    batch_size, images = data.batch_size, len(data.train[1])
    if processes > 1 and (batch_size % processes or batch_size > images):
        raise InputError(
            f"data.batch_size={batch_size}: must be a multiple of the {processes} processes, which "
            f"share it, and at most {images}, the number of training images"
        )


def recipe_seed(cfg: DictConfig) -> int:
    """Return the seed of the classifier's training: `recipe.seed`, or the seed of the run."""
    return int(cfg.seed if cfg.recipe.seed is None else cfg.recipe.seed)
