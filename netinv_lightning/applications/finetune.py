"""`application=finetune`: a classifier trains on with its own inverted images among real ones (S3 Applications; A4-13, A4-14).

    netinv application=finetune application.run=RUN_DIRECTORY data.subset_size=1000
    netinv application=finetune application.run=RUN_DIRECTORY application.kind=adversarial application.radius=0.1

Before and after are compared: accuracy, accuracy under attack, calibration; beside a control that trains as long on real images alone,
and for `adversarial` images one more, whose perturbed images are real.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.architecture import build_network
from netinv_lightning.classifiers.build import SPLIT_KEYS, described_network
from netinv_lightning.classifiers.checkpoints import save_classifier
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.downstream.build import open_test_data
from netinv_lightning.downstream.downstream_figures import classifier_metrics_figure
from netinv_lightning.downstream.finetuning import (
    ClassifierQuality,
    LabelledImages,
    evaluate_classifier,
    fine_tune,
)
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.finished_run import open_finished
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.runs.finished_check import named_run
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.runs.tables import Cell, Table, show, write_table
from netinv_lightning.tracking.loggers import check_logger, log_artifact, log_image, open_loggers
from netinv_lightning.training.progress import log_progress, tell
from netinv_lightning.training.snapshots import Snapshots
from netinv_lightning.training.trainer import check_one_process, make_trainer

OF_THE_COMMAND = (
    "root",
    "batch_size",
    "val_fraction",
    "subset_size",
    "split_seed",
    "shift",
    "flip",
)
"""Keys of `data` that are this command's; which data it is says the run."""
ARMS = {
    "before": "before",
    "real": "on real images alone (control)",
    "real_adversarial": "with perturbed real images (control)",
    "inverted": "with inverted images",
}
"""What is compared, by the name in metrics."""


class FinetuneApplication:
    """Fine-tunes the classifier that `cfg.application.run` inverted; `data` (but for which it is) and the logger are this command's."""

    best_metric = names.FINETUNE_ACCURACY

    def __init__(self, cfg: DictConfig) -> None:
        check_logger(cfg)
        check_one_process(cfg)
        app = cfg.application
        directory = named_run(cfg)
        run = open_finished(directory, "application.images", cfg)
        for key in OF_THE_COMMAND:
            run.cfg.data[key] = cfg.data[key]
        self.cfg, self.run_cfg, self.frozen = cfg, run.cfg, run.classifier
        real, missing = open_test_data(run.cfg, self.frozen)
        if real is None:
            raise InputError(
                f"data.root={cfg.data.root}: fine-tuning needs real training and test images; {missing}"
            )
        self.classifier = self.frozen
        self.real, self.test = real, real.test
        self.attack = Perturbation("linf", app.radius, "adversarial", app.attack_steps)
        drawn = run.draw(app.images)
        self.inverted: LabelledImages = (drawn.images_nCHW, drawn.labels_n)
        self.description = described_network(run.cfg)

    def run(self, run_dir: RunDir) -> dict[str, float]:
        app, start = self.cfg.application, time.perf_counter()
        self.device = make_trainer(
            self.cfg, callbacks=[], loggers=[], enable_checkpointing=False
        ).strategy.root_device
        with open_loggers(self.cfg, run_dir) as loggers:
            judged = {"before": self._judge("before", self._copy())}
            for arm in ARMS:
                if arm != "before" and (arm != "real_adversarial" or app.kind == "adversarial"):
                    classifier = self._tuned(arm, loggers, run_dir)
                    judged[arm] = self._judge(arm, classifier)
            metrics = {
                names.finetune(arm, what): value
                for arm, of in judged.items()
                for what, value in vars(of).items()
            }
            metrics[names.SECONDS] = time.perf_counter() - start
            for logger in loggers:
                logger.log_metrics(metrics, step=app.steps)
            table = self._table(judged)
            write_table(table, run_dir.path, "finetuning")
            show(table)
            figure = self._figure(judged, run_dir)
            log_image(
                loggers,
                names.figure("finetuning"),
                figure,
                app.steps,
                "before and after fine-tuning",
            )
            path = run_dir.path / "classifier.safetensors"
            save_classifier(
                path, classifier.network, self._card(judged["inverted"])
            )  # the last arm's
            log_artifact(
                loggers,
                "classifier",
                f"{self.cfg.name}-seed{self.cfg.seed}",
                path,
                path.with_suffix(".json"),
            )
            print(f"classifier: {path}")
        return metrics

    def _copy(self) -> Classifier:
        """The classifier as it was, in weights of its own."""
        network = build_network(self.description, self.frozen.spec)
        network.load_state_dict(self.frozen.network.state_dict())
        return Classifier(network, self.frozen.spec, like=self.frozen).to(self.device).eval()

    def _tuned(self, arm: str, loggers: list[Logger], run_dir: RunDir) -> Classifier:
        app, data = self.cfg.application, self.run_cfg.data
        of_arm = {"real": None, "real_adversarial": self.real.train, "inverted": self.inverted}
        return fine_tune(
            self._copy(), self.real.train, of_arm[arm], app.share,
            steps=app.steps, batch_size=data.batch_size, lr=app.lr, shift=data.shift, flip=data.flip,
            attack=self.attack if app.kind == "adversarial" else None, seed=self.cfg.seed,
            on_step=log_progress(f"fine-tuning {ARMS[arm]}", app.steps, loggers, names.finetune(arm, "loss")),
            snapshots=Snapshots(run_dir.checkpoints / f"{arm}.ckpt", run_dir.resuming, app.checkpoint_every),
        )  # fmt: skip

    def _judge(self, arm: str, classifier: Classifier) -> ClassifierQuality:
        tell(f"fine-tuning: judging {arm}")
        return evaluate_classifier(
            classifier, self.test, self.attack, self.cfg.application.attacked, self.cfg.seed
        )

    def _table(self, judged: dict[str, ClassifierQuality]) -> Table:
        app = self.cfg.application
        rows: list[list[Cell]] = [
            [ARMS[arm], of.accuracy, of.robust_accuracy, of.ece, of.brier, of.nll]
            for arm, of in judged.items()
        ]
        perturbed = (
            f", perturbed in the Linf ball of {app.radius:g}" if app.kind == "adversarial" else ""
        )
        notes = [
            f"{app.steps} steps of {self.run_cfg.data.batch_size} images, drawn from {len(self.real.train[1])} real ones; "
            f"a share of {app.share:g} of each batch from {app.images} inverted ones{perturbed}; seed {self.cfg.seed}",
            f"accuracy and calibration (ECE in 15 bins, Brier score, NLL in nats): {len(self.test[1])} real test images",
            f"robust accuracy: right as it is and after {app.attack_steps} steps of PGD in the Linf ball of {app.radius:g}, on "
            f"{min(app.attacked, len(self.test[1]))} of them",
        ]
        columns = ["classifier", "accuracy", "robust accuracy", "ECE", "Brier", "NLL"]
        return Table(f"{self.run_cfg.name}: fine-tuning ({app.kind})", columns, rows, notes)

    def _figure(self, judged: dict[str, ClassifierQuality], run_dir: RunDir) -> Path:
        rows = {
            ARMS[arm]: {
                "accuracy": of.accuracy,
                "robust accuracy": of.robust_accuracy,
                "ECE": of.ece,
            }
            for arm, of in judged.items()
        }
        title = f"{self.run_cfg.name}: fine-tuning ({self.cfg.application.kind}); dashed: before"
        return classifier_metrics_figure(rows, run_dir.figures / "finetuning.png", title)

    def _card(self, judged: ClassifierQuality) -> dict[str, Any]:
        app, spec = self.cfg.application, self.frozen.spec
        inverted = str(self.run_cfg.classifier.zoo or self.run_cfg.classifier.path)
        keys = ("run", "kind", "share", "images", "steps", "lr", "radius", "attack_steps")
        split = {
            key: self.run_cfg.data[key]
            for key in SPLIT_KEYS
            if key != "classes" or self.run_cfg.data[key] is not None
        }
        return {
            "name": "classifier",
            "data": spec.as_dict(),
            "network": self.description,
            "parameters": sum(weight.numel() for weight in self.frozen.network.parameters()),
            "training_images": len(self.real.train[1]),
            "test_images": len(self.test[1]),
            "test_accuracy": round(judged.accuracy, 4),
            "seed": self.cfg.seed,
            "recipe": {
                "application": "finetune",
                "from": inverted,
                "trained_before": True,
                **{key: app[key] for key in keys},
                **split,
            },
        }
