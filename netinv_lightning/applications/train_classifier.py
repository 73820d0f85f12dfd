"""`application=train_classifier`: trains a classifier on a data set and stores it with a card.

The file `classifier.safetensors` in the run directory and its card are all that `classifier=checkpoint` needs.
"""

from __future__ import annotations

import time
from pathlib import Path

import lightning as L
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file

from netinv_lightning.classifiers.build import build_network
from netinv_lightning.classifiers.checkpoint import save_classifier
from netinv_lightning.classifiers.classifier import Classifier, FrozenClassifier
from netinv_lightning.classifiers.training import ClassifierModule
from netinv_lightning.data.module import ImageDataModule
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.metrics import names
from netinv_lightning.progress import progress
from netinv_lightning.run_dir import RunDir
from netinv_lightning.tracking import check_logger, open_loggers
from netinv_lightning.trainer import check_trainer, expected_warnings, make_trainer

RECIPE = ("optimizer", "lr", "momentum", "weight_decay", "l1", "label_smoothing", "warmup")


class TrainClassifierApplication:
    """Trains `cfg.classifier.network` on `cfg.data`."""

    best_metric = names.CLASSIFIER_TEST_ACCURACY

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        check_logger(cfg)
        check_trainer(cfg)
        if not cfg.classifier.network:
            raise InputError("classifier.network: choose a network to train: classifier=cnn, mlp, resnet or vit")
        if cfg.application.save_as is not None and not cfg.application.save_as.endswith(".safetensors"):
            raise InputError(f"application.save_as={cfg.application.save_as}: must end in .safetensors")
        self.network_config = OmegaConf.to_container(cfg.classifier.network, resolve=True)
        assert isinstance(self.network_config, dict)
        if cfg.resume is not None:
            raise InputError(f"resume={cfg.resume}: application=train_classifier keeps no checkpoints; start it anew")
        self.data = ImageDataModule(**cfg.data)
        L.seed_everything(cfg.seed, verbose=False)
        network = build_network(self.network_config, self.data.spec)
        FrozenClassifier(network, self.data.spec, cfg.classifier.feature_layers)  # refuses shapes that do not fit
        network.train().requires_grad_(True)
        try:
            recipe = {key: cfg.application[key] for key in RECIPE}
            self.module = ClassifierModule(Classifier(network, self.data.spec), **recipe)
        except ValueError as error:
            raise InputError(f"application.{one_line(error)}") from error

    def run(self, run_dir: RunDir) -> dict[str, float]:
        app, data = self.cfg.application, self.data
        if app.channels_last:
            self.module = self.module.to(memory_format=torch.channels_last)
        save_file({"train": data.train_indices, "val": data.val_indices}, run_dir.path / "split.safetensors")
        with open_loggers(self.cfg, run_dir) as loggers:
            trainer = make_trainer(
                self.cfg,
                callbacks=progress((names.CLASSIFIER_LOSS, names.CLASSIFIER_VAL_ACCURACY)),
                loggers=loggers,
                max_epochs=app.epochs,
                enable_checkpointing=False,
                log_every_n_steps=20,
                num_sanity_val_steps=0,
                limit_val_batches=1.0 if len(data.val_indices) else 0,
            )
            start = time.perf_counter()
            with expected_warnings():
                trainer.fit(self.module, datamodule=data)
            seconds = time.perf_counter() - start
            metrics = {names.TRAINING_SECONDS: seconds}
            metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
            if len(data.test[1]):
                metrics |= {name: float(value) for name, value in trainer.test(self.module, datamodule=data, verbose=False)[0].items()}
        path = Path(app.save_as) if app.save_as else run_dir.path / "classifier.safetensors"
        save_classifier(path, self.module.classifier.network, self._card(path.stem, metrics))
        print(f"classifier: {path}  test accuracy {metrics.get(names.CLASSIFIER_TEST_ACCURACY, float('nan')):.4f}")
        return metrics

    def _card(self, name: str, metrics: dict[str, float]) -> dict[str, object]:
        app = self.cfg.application
        recipe = {key: value for key, value in app.items() if key not in ("name", "save_as")}
        data = {key: self.cfg.data[key] for key in ("batch_size", "val_fraction", "subset_size", "split_seed", "shift", "flip")}
        return {
            "name": name,
            "data": self.data.spec.as_dict(),
            "network": self.network_config,
            "parameters": sum(parameter.numel() for parameter in self.module.classifier.parameters()),
            "training_images": len(self.data.train_indices),
            "test_images": len(self.data.test[1]),
            "test_accuracy": round(metrics.get(names.CLASSIFIER_TEST_ACCURACY, float("nan")), 4),
            "seed": self.cfg.seed,
            "recipe": {**recipe, **data},
        }
