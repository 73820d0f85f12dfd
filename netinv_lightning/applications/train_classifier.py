"""`application=train_classifier`: trains a classifier on a data set and stores it with a card.

The file `classifier.safetensors` in the run directory and its card are all that `classifier=checkpoint` needs.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from safetensors.torch import save_file

from netinv_lightning import metric_names as names
from netinv_lightning.applications.input_check import check_save_as
from netinv_lightning.classifiers.checkpoints import save_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.training import ClassifierTraining
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.tracking.loggers import check_logger, log_artifact, open_loggers
from netinv_lightning.training.trainer import check_one_process


class TrainClassifierApplication:
    """Trains `cfg.classifier.network` on `cfg.data` by `cfg.recipe`."""

    best_metric = names.CLASSIFIER_TEST_ACCURACY

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        check_logger(cfg)
        check_one_process(cfg)
        check_save_as(cfg)
        self.training = ClassifierTraining(cfg)

    @property
    def classifier(self) -> FrozenClassifier:
        return self.training.frozen

    def run(self, run_dir: RunDir) -> dict[str, float]:
        training, app = self.training, self.cfg.application
        split = {"train": training.data.train_indices, "val": training.data.val_indices}
        save_file(split, run_dir.path / "split.safetensors")
        with open_loggers(self.cfg, run_dir) as loggers:
            checkpoint = run_dir.checkpoints / "last.ckpt"
            metrics = training.run(loggers, checkpoint, run_dir.resuming, app.checkpoint_every)
            learnt = {names.CLASSIFIER_TRAIN_ACCURACY: training.train_accuracy()}
            for logger in loggers:
                logger.log_metrics(learnt, training.module.global_step)
            metrics |= learnt
            path = Path(app.save_as) if app.save_as else run_dir.path / "classifier.safetensors"
            run_dir.record(saves=str(path))
            save_classifier(path, training.network, training.card(path.stem, metrics))
            log_artifact(
                loggers,
                "classifier",
                f"{self.cfg.name}-seed{self.cfg.seed}",
                path,
                path.with_suffix(".json"),
            )
        test = metrics.get(names.CLASSIFIER_TEST_ACCURACY, float("nan"))
        print(
            f"classifier: {path}  accuracy {metrics[names.CLASSIFIER_TRAIN_ACCURACY]:.4f} on training images, {test:.4f} on test images"
        )
        return metrics
