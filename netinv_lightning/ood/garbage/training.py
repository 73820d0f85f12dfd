"""The training that a choice of the group `garbage` asks for: made, which checks all that it names, then run.

Shape suffixes: M classes, garbage the last.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.build import described_network
from netinv_lightning.classifiers.checkpoints import fill, load_weights, read_card, save_classifier
from netinv_lightning.classifiers.frozen import Classifier, FrozenClassifier
from netinv_lightning.classifiers.training import MODULE_KEYS
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.outlier_names import check_outliers
from netinv_lightning.data.outliers import gaussian_noise
from netinv_lightning.data.specs import same_data
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.figures import image_grid
from netinv_lightning.ood.detectors.exported import garbage_path
from netinv_lightning.ood.garbage.extended import extended_network, take_over, with_garbage_class
from netinv_lightning.ood.garbage.garbage_module import GarbageModule
from netinv_lightning.ood.garbage.source import (
    Inverted,
    Noise,
    RealOutliers,
    Source,
    as_bytes,
    noise_seed,
)
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.tracking.loggers import log_image
from netinv_lightning.training.checkpoints import Checkpoints
from netinv_lightning.training.progress import PlainProgress, tell
from netinv_lightning.training.trainer import expected_warnings, make_trainer

SHOWN = 20  # images of an epoch in the picture


class GarbageTraining:
    """Trains the classifier with a garbage class that `cfg.garbage.<name>` describes.

    Args:
        name: Of the choice.
        cfg: The config.
        classifier: The plain classifier, from which it starts where it does not start from scratch.
        data: Its data.

    Raises:
        InputError: naming the key that is wrong.
    """

    def __init__(
        self, name: str, cfg: DictConfig, classifier: FrozenClassifier, data: ImageDataModule
    ) -> None:
        self.name, self.cfg, self.options, self.classifier, self.data = (
            name,
            cfg,
            cfg.garbage[name],
            classifier,
            data,
        )
        self._check()
        options, spec = self.options, with_garbage_class(classifier.spec)
        L.seed_everything(cfg.seed, verbose=False)
        self.description, self.network = extended_network(described_network(cfg), classifier.spec)
        self.frozen = FrozenClassifier(
            self.network, spec, output=cfg.classifier.output, output_kind=cfg.classifier.output_kind
        )  # refuses a network that has not one class more now
        self.network.train().requires_grad_(True)
        self.source = self._source()
        self.recipe: dict[str, Any] = {key: cfg.recipe[key] for key in MODULE_KEYS}
        self.recipe |= {
            key: options[key] for key in ("lr", "label_smoothing") if options[key] is not None
        }
        self.epochs = cfg.recipe.epochs if options.epochs is None else options.epochs

    @property
    def per_epoch(self) -> int:
        """Images that an epoch takes from the source: of the inverted ones so many a class, and of the controls as many in all."""
        options = self.options
        return options.per_class * (
            self.classifier.spec.num_classes
            + (options.source == "inverted" and options.invert_garbage)
        )

    def run(self, run_dir: RunDir, loggers: list[Logger]) -> FrozenClassifier:
        """Trains it, or goes on where a resumed run stopped; the trained one is kept in the run directory, with a card.

        Raises:
            RuntimeError: if the weights that came out are no numbers.
        """
        path = garbage_path(run_dir.path, self.name)
        if run_dir.resuming and path.with_suffix(".json").is_file():
            tell(f"garbage {self.name}  kept from before: {path}")
        else:
            self._train(run_dir, loggers)
            for key, weight in self.network.state_dict().items():
                if not weight.isfinite().all():
                    raise RuntimeError(
                        f"garbage.{self.name}: {key} is not finite after the training; lower its lr={self.recipe['lr']}"
                    )
            save_classifier(path, self.network, self._card())
        read_card(path)
        fill(self.network, load_weights(path), str(path))
        return self.frozen.requires_grad_(False).eval()

    def _train(self, run_dir: RunDir, loggers: list[Logger]) -> None:
        cfg, options = self.cfg, self.options
        if options.start == "trained":
            take_over(self.network, self.classifier.network.cpu())
        garbage_nCHW = as_bytes(
            gaussian_noise(self.classifier.spec, options.initial, noise_seed(cfg.seed, 0))
        )
        module = GarbageModule(
            Classifier(self.network, self.frozen.spec, like=self.frozen), self.data, garbage_nCHW, self.source,
            self.classifier, options, self.epochs, cfg.seed, self._tell_epoch(loggers), **self.recipe,
        )  # fmt: skip
        if cfg.recipe.channels_last:
            module = module.to(memory_format=torch.channels_last)
        module.total_steps = module.planned_steps(self.per_epoch * (1 + (options.zoom > 1)))
        checkpoints = Checkpoints(run_dir.checkpoints, every=None, stem=self.name)
        trainer = make_trainer(
            cfg,
            callbacks=[
                PlainProgress(
                    (names.CLASSIFIER_LOSS,), f"garbage {self.name}  training ", module.total_steps
                ),
                checkpoints,
            ],
            loggers=[],
            max_epochs=self.epochs,
            reload_dataloaders_every_n_epochs=1,  # the garbage has grown
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if len(self.data.val[1]) else 0,
            enable_progress_bar=False,  # two levels tell in lines
        )
        last = checkpoints.last if run_dir.resuming and checkpoints.last.is_file() else None
        with expected_warnings():
            trainer.fit(module, ckpt_path=last, weights_only=True)
        picture = image_grid(
            *self._shown(module.garbage_nCHW),
            run_dir.figures / f"garbage_{self.name}.png",
            f"{self.name}: its garbage",
        )
        log_image(
            loggers,
            names.figure(picture.stem),
            picture,
            0,
            f"{self.name}: its garbage, epoch by epoch",
        )

    def _shown(self, garbage_nCHW: Tensor) -> tuple[Tensor, list[str]]:
        """Of the garbage of each epoch the first images, one a class where it is inverted, [R, K, C, H, W], and a name each row."""
        options, per_epoch = self.options, self.per_epoch
        K = min(options.initial, per_epoch // options.per_class, SHOWN)
        rows, names_of_rows, begin = [garbage_nCHW[:K]], ["at first"], options.initial
        for epoch in range(1, self.epochs):
            for told in (f"epoch {epoch}", *(["enlarged"] if options.zoom > 1 else [])):
                rows.append(garbage_nCHW[begin : begin + K])
                names_of_rows.append(told)
                begin += per_epoch
        return torch.stack(rows).float() / 255, names_of_rows

    def _tell_epoch(self, loggers: list[Logger]) -> Callable[[int, dict[str, float]], None]:
        def tell_epoch(epoch: int, numbers: dict[str, float]) -> None:
            told = "  ".join(f"{what} {value:g}" for what, value in numbers.items())
            tell(f"garbage {self.name}  epoch {epoch + 1}/{self.epochs} done  {told}")
            for logger in loggers:
                logger.log_metrics(
                    {names.garbage(self.name, what): value for what, value in numbers.items()},
                    step=epoch,
                )

        return tell_epoch

    def _source(self) -> Source:
        options, spec, seed = self.options, self.classifier.spec, self.cfg.seed
        if options.source == "noise":
            return Noise(spec, self.per_epoch, seed)
        if options.source == "outliers":
            return RealOutliers(
                options.exposed, spec, self.per_epoch, seed, self.data, Path(self.cfg.data.root)
            )
        try:
            source = Inverted(self.name, options, self.frozen.spec, seed, self.cfg.trainer)
            source.check(self.network)
        except InputError as error:
            raise InputError(
                f"garbage.{self.name}.inversion={list(options.inversion)}: {one_line(error)}"
            ) from error
        return source

    def _check(self) -> None:
        where, options = f"garbage.{self.name}", self.options
        if (options.source == "outliers") != bool(options.exposed):
            raise InputError(
                f"{where}.exposed={list(options.exposed)}: names the sets that source=outliers trains on; no other source has any"
            )
        for name in options.exposed:
            check_outliers(
                name, self.cfg.data.name, self.cfg.data.classes, train=True, key=f"{where}.exposed"
            )
            if judging := [
                other for other in self.cfg.application.outliers if same_data(name, other)
            ]:
                raise InputError(
                    f"{where}.exposed={name}: application.outliers has {judging[0]}, which is the same data; a detector is not judged by "
                    "what it was trained on, name another set"
                )

    def _card(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "data": self.frozen.spec.as_dict(),
            "network": self.description,
            "garbage": OmegaConf.to_container(self.options),
            "recipe": {**self.recipe, "epochs": self.epochs, "batch_size": self.data.batch_size},
            "seed": self.cfg.seed,
        }
