"""`application=train_classifier`: train a classifier and store it with a model card.

The run directory contains `classifier.safetensors` and its card, which `classifier=checkpoint`
reads.
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from netinv_lightning import metric_names as names
from netinv_lightning.applications.base import Application
from netinv_lightning.classifiers.checkpoints import save_classifier
from netinv_lightning.classifiers.training import ClassifierTraining, check_shares
from netinv_lightning.classifiers.verifiers import (
    check_verified,
    load_verified,
    verifier_config,
)
from netinv_lightning.runs.peers import first_process
from netinv_lightning.tracking.result import Result, classifier_artifact
from netinv_lightning.tracking.run_context import RunContext


class TrainClassifierApplication(Application):
    """Trains `classifier.network` on `data` as `recipe` describes."""

    best_metric = names.CLASSIFIER_TEST_ACCURACY
    one_process = False

    def check(self) -> None:
        verified = None
        if (named := self.cfg.application.verifier_of) is not None:
            verified = load_verified(named, self.cfg)
            self.cfg = verifier_config(self.cfg, verified)
        self.training = ClassifierTraining(self.cfg)
        check_shares(self.training.data, self.processes)
        if verified is not None:
            check_verified(self.training.data.spec, verified)
        self.classifier = self.training.frozen

    def compute(self, run: RunContext) -> Result:
        training, app = self.training, self.cfg.application
        split = {"train": training.data.train_indices, "val": training.data.val_indices}
        if first_process():
            save_file(split, run.path / "split.safetensors")
        checkpoint, resuming = run.directory.checkpoints / "last.ckpt", run.directory.resuming
        metrics = training.run(run.loggers, checkpoint, resuming, app.checkpoint_every)
        metrics[names.CLASSIFIER_TRAIN_ACCURACY] = training.train_accuracy()
        if not first_process():
            return Result(metrics)
        path = Path(app.save_as) if app.save_as else run.path / "classifier.safetensors"
        run.directory.record(saves=str(path))
        card = training.card(path.stem, metrics)
        lines = []
        if app.verifier_of is not None:
            card["verifier_of"] = app.verifier_of
            lines = [f"to use it: application.verifiers=[{path}]"]
        save_classifier(path, training.network, card)
        on_training = metrics[names.CLASSIFIER_TRAIN_ACCURACY]
        on_test = metrics.get(names.CLASSIFIER_TEST_ACCURACY, float("nan"))
        return Result(
            metrics,
            step=training.module.global_step,
            artifacts=[classifier_artifact(path)],
            lines=[
                f"classifier: {path}  accuracy {on_training:.4f} on training images, "
                f"{on_test:.4f} on test images",
                *lines,
            ],
        )
