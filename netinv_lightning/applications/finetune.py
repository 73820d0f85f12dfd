"""`application=finetune`: fine-tune a classifier on real images mixed with its own inverted images.

    netinv application=finetune application.run=RUN_DIRECTORY data.subset_size=1000
    netinv application=finetune application.run=RUN_DIRECTORY application.kind=adversarial \
        application.radius=0.1

The table compares accuracy, robust accuracy and calibration before and after (Taparia, supervised
research slides, Applications). A control trains for the same number of steps on real images only;
with `kind=adversarial` a second control trains on perturbed real images.
"""

from __future__ import annotations

from netinv_lightning import metric_names as names
from netinv_lightning.applications.base import Application
from netinv_lightning.classifiers.build import described_network
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.data.specs import require_images
from netinv_lightning.downstream.build import (
    finetuning_recipe,
    require_test_data,
    with_data_keys,
)
from netinv_lightning.downstream.finetune_report import ARMS, arms, finetune_result
from netinv_lightning.downstream.finetuning import (
    ClassifierQuality,
    LabelledImages,
    evaluate_classifier,
    fine_tune,
    trainable_copy,
)
from netinv_lightning.evaluation.finished_run import open_finished
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.runs.finished_check import named_run
from netinv_lightning.tracking.result import Result
from netinv_lightning.tracking.run_context import RunContext
from netinv_lightning.training.progress import log_progress, print_progress


class FinetuneApplication(Application):
    """Fine-tunes the classifier that the run `application.run` inverted.

    The logger and the keys `OF_THE_COMMAND` of `data` come from the command, everything else from
    the run.
    """

    best_metric = names.FINETUNE_ACCURACY
    classifier: FrozenClassifier

    def check(self) -> None:
        cfg, app = self.cfg, self.cfg.application
        run = open_finished(named_run(cfg), "application.images", cfg)
        self.run_cfg, self.classifier = with_data_keys(run.cfg, cfg), run.classifier
        require_images(self.classifier.spec, "application=finetune")
        self.real = require_test_data(self.run_cfg, self.classifier)
        self.attack = Perturbation("linf", app.radius, "adversarial", app.attack_steps)
        drawn = run.draw(app.images)
        self.inverted: LabelledImages = (drawn.images_nCHW, drawn.labels_n)
        self.description = described_network(self.run_cfg)

    def compute(self, run: RunContext) -> Result:
        judged = {}
        for arm in arms(self.cfg.application.kind):  # the last one is trained on inverted images
            classifier = self._tune(arm, run)
            judged[arm] = self._judge(arm, classifier)
        return finetune_result(
            self.run_cfg.name,
            run,
            judged=judged,
            classifier=classifier,
            network=self.description,
            real=self.real,
            recipe=finetuning_recipe(self.cfg, self.run_cfg),
        )

    def _tune(self, arm: str, run: RunContext) -> Classifier:
        """Return a copy of the classifier, trained as the arm says."""
        app, data = self.cfg.application, self.run_cfg.data
        classifier = trainable_copy(self.classifier, self.description).to(run.device)
        if arm == "before":
            return classifier
        extra = {"real": None, "real_adversarial": self.real.train, "inverted": self.inverted}
        loss = names.finetune(arm, "loss")
        return fine_tune(
            classifier,
            self.real.train,
            extra[arm],
            app.share,
            steps=app.steps,
            batch_size=data.batch_size,
            lr=app.lr,
            shift=data.shift,
            flip=data.flip,
            attack=self.attack if app.kind == "adversarial" else None,
            seed=self.cfg.seed,
            on_step=log_progress(f"fine-tuning {ARMS[arm]}", app.steps, run.loggers, loss),
            snapshots=run.snapshots(arm, app.checkpoint_every),
        )

    def _judge(self, arm: str, classifier: Classifier) -> ClassifierQuality:
        print_progress(f"fine-tuning: evaluating {arm}")
        attacked = self.cfg.application.attacked
        return evaluate_classifier(classifier, self.real.test, self.attack, attacked, self.cfg.seed)
