"""How a classifier is trained, the ordinary way (A1-2): the LightningModule, and the training that a config asks for.

Shape suffixes: B batch, C channels, H height, W width, N classes.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.architecture import build_network, reading_keys, spec_with_keys
from netinv_lightning.classifiers.frozen import Classifier, FrozenClassifier
from netinv_lightning.classifiers.outputs import AUTO
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.training.checkpoints import Checkpoints
from netinv_lightning.training.progress import progress
from netinv_lightning.training.schedules import one_cycle
from netinv_lightning.training.snapshots import EVERY
from netinv_lightning.training.trainer import expected_warnings, make_trainer

MODULE_KEYS = ("optimizer", "lr", "momentum", "weight_decay", "l1", "label_smoothing", "warmup")
"""Keys of `recipe` that are arguments of `ClassifierModule`."""
DATA_KEYS = ("batch_size", "val_fraction", "subset_size", "split_seed", "shift", "flip", "classes")
"""Keys of `data` that a card states with the recipe."""
PROBED = 10_000


class DivergedError(RuntimeError):
    """The trained weights are not finite; resuming the training cannot help."""


class ClassifierModule(L.LightningModule):
    """Cross-entropy with label smoothing, weight decay and an L1 penalty, under a one-cycle learning rate.

    Args:
        classifier: What is trained.
        optimizer: `sgd` (Nesterov) or `adamw`.
        lr: Highest learning rate.
        momentum: Of `sgd`.
        weight_decay: On weight matrices and kernels; not on biases and BatchNorm.
        l1: Weight of the sum of absolute weights.
        label_smoothing: Share of the target spread over all classes.
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
        self.class_weights_N: Tensor | None = None  # of the cross-entropy; None for equal ones
        self.total_steps: int | None = (
            None  # of the learning rate's cycle; None for what the Trainer estimates
        )
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
            loss = loss + self.l1 * sum(parameter.abs().sum() for parameter in self._decayed())
        self.log(names.CLASSIFIER_LOSS, loss.detach(), prog_bar=True)
        return loss

    def targets(self, x_BCHW: Tensor, y_B: Tensor) -> Tensor:
        """What the cross-entropy compares with: labels [B], or probabilities [B, N] where a subclass gives those."""
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
        decayed = self._decayed()
        chosen = set(decayed)
        plain = [parameter for parameter in self.classifier.parameters() if parameter not in chosen]
        groups = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        optimizer: torch.optim.Optimizer
        if self.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, self.lr, self.momentum, nesterov=self.momentum > 0)
        else:
            optimizer = torch.optim.AdamW(groups, self.lr)
        steps = self.total_steps or int(self.trainer.estimated_stepping_batches)
        schedule = one_cycle(optimizer, self.lr, steps, self.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _decayed(self) -> list[Tensor]:
        return [parameter for parameter in self.classifier.parameters() if parameter.ndim > 1]


class SoFar(Callback):
    """Seconds and last metrics of a training, over all processes of a resumed one; part of its checkpoint."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self._earlier, self._start = 0.0, time.perf_counter()

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
    """Trains `cfg.classifier.network` on `cfg.data` by `cfg.recipe`. Made, which reads and checks all that they name, then run.

    Making it seeds the global randomness, from which initial weights, batches, augmentation and dropout come.

    Args:
        cfg: The config.

    Raises:
        InputError: if the data are missing, the network does not fit them, or a value is out of range.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        network_config = (
            OmegaConf.to_container(cfg.classifier.network, resolve=True)
            if cfg.classifier.network
            else None
        )
        if not isinstance(network_config, dict):
            raise InputError(
                "classifier.network: choose a network to train: classifier=cnn, mlp, resnet or vit"
            )
        self.network_config = network_config
        self.data = ImageDataModule(**cfg.data)
        spec = spec_with_keys(self.data.spec, cfg)
        for key in ("channels", "image_size"):
            if getattr(spec, key) != getattr(self.data.spec, key):
                raise InputError(
                    f"classifier.{key}={getattr(spec, key)}: the images have {getattr(self.data.spec, key)}; leave it out"
                )
        if spec.num_classes < self.data.spec.num_classes:
            raise InputError(
                f"classifier.num_classes={spec.num_classes}: the data have {self.data.spec.num_classes}; leave it out"
            )
        self.seed = recipe_seed(cfg)
        L.seed_everything(self.seed, verbose=False)
        self.network: nn.Module = build_network(network_config, spec)
        self.frozen = FrozenClassifier(
            self.network, spec, **reading_keys(cfg)
        )  # refuses shapes that do not fit
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
        """Trains, and measures on the test split.

        Args:
            loggers: Where the training's metrics go.
            checkpoint: The file that the training is kept in.
            resuming: Whether it continues from that file, where there is one.
            every: Steps between two checkpoints.
            trainer_defaults: Further arguments of `make_trainer`.

        Raises:
            DivergedError: if a trained weight is not finite.
        """
        recipe, data, module = self.cfg.recipe, self.data, self.module
        if recipe.channels_last:
            module = module.to(memory_format=torch.channels_last)
        so_far = SoFar()
        trainer = make_trainer(
            self.cfg,
            callbacks=[
                *progress((names.CLASSIFIER_LOSS, names.CLASSIFIER_VAL_ACCURACY)),
                so_far,
                Checkpoints(checkpoint.parent, every, checkpoint.stem, epochs=True),
            ],
            loggers=loggers,
            max_epochs=recipe.epochs,
            log_every_n_steps=20,
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if len(data.val_indices) else 0,
            **trainer_defaults,
        )
        last = checkpoint if resuming and checkpoint.is_file() else None
        with expected_warnings():
            trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)
        metrics = {names.TRAINING_SECONDS: so_far.seconds, **so_far.metrics}
        for name, weight in self.network.state_dict().items():
            if not weight.isfinite().all():
                raise DivergedError(
                    f"the classifier's {name} is not finite after its training; lower recipe.lr={recipe.lr}"
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

    @torch.no_grad()
    def train_accuracy(self) -> float:
        """Share of the training images, as they are and of more than 10,000 the first, that the classifier takes for their class."""
        (images_nCHW, label_n), classifier = self.data.train, self.module.classifier.eval()
        parts = zip(images_nCHW[:PROBED].split(500), label_n[:PROBED].split(500), strict=True)
        device = self.module.device
        right = [
            classifier(x_BCHW.to(device).float() / 255).argmax(dim=1).cpu() == y_B
            for x_BCHW, y_B in parts
        ]
        return float(torch.cat(right).double().mean())

    def card(self, name: str, metrics: dict[str, float]) -> dict[str, Any]:
        """What the trained classifier is; `save_classifier` writes it beside the weights."""
        data: Any = OmegaConf.to_container(self.cfg.data, resolve=True)
        return {
            "name": name,
            "data": self.frozen.spec.as_dict(),
            "network": self.network_config,
            **(
                {} if self.cfg.classifier.output is None else {"output": self.cfg.classifier.output}
            ),
            **(
                {}
                if self.cfg.classifier.output_kind == AUTO
                else {"output_kind": self.cfg.classifier.output_kind}
            ),
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "training_images": len(self.data.train_indices),
            "test_images": len(self.data.test[1]),
            "test_accuracy": round(metrics.get(names.CLASSIFIER_TEST_ACCURACY, float("nan")), 4),
            "seed": self.seed,
            "recipe": {
                **{str(key): value for key, value in self.cfg.recipe.items() if key != "seed"},
                **{
                    key: data[key] for key in DATA_KEYS if key != "classes" or data[key] is not None
                },
            },
        }


def recipe_seed(cfg: DictConfig) -> int:
    """The seed of the classifier's training: `recipe.seed`, else the run's."""
    return int(cfg.seed if cfg.recipe.seed is None else cfg.recipe.seed)
