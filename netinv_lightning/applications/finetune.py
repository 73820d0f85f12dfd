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
from netinv_lightning.classifiers.architecture import build_network
from netinv_lightning.classifiers.build import SPLIT_KEYS, described_network
from netinv_lightning.classifiers.checkpoints import save_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.data.specs import require_images
from netinv_lightning.downstream.build import open_test_data
from netinv_lightning.downstream.downstream_figures import classifier_metrics_figure
from netinv_lightning.downstream.finetune_report import ARMS, card, figure_rows, table
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
from netinv_lightning.tracking.result import Artifact, Figure, Result
from netinv_lightning.tracking.run_context import RunContext
from netinv_lightning.training.progress import log_progress, print_progress

OF_THE_COMMAND = (
    "root",
    "batch_size",
    "val_fraction",
    "subset_size",
    "split_seed",
    "shift",
    "flip",
)
"""Keys of `data` that the command sets; the run determines the data set."""


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
        for key in OF_THE_COMMAND:
            run.cfg.data[key] = cfg.data[key]
        self.run_cfg, self.classifier = run.cfg, run.classifier
        require_images(self.classifier.spec, "application=finetune")
        real, missing = open_test_data(run.cfg, self.classifier)
        if real is None:
            raise InputError(
                f"data.root={cfg.data.root}: fine-tuning needs real training and test images; "
                f"{missing}"
            )
        self.real = real
        self.attack = Perturbation("linf", app.radius, "adversarial", app.attack_steps)
        drawn = run.draw(app.images)
        self.inverted: LabelledImages = (drawn.images_nCHW, drawn.labels_n)
        self.description = described_network(run.cfg)

    def compute(self, run: RunContext) -> Result:
        app, name = self.cfg.application, self.run_cfg.name
        classifier = self._copy(run)
        judged = {"before": self._judge("before", classifier)}
        for arm in ARMS:
            if arm != "before" and (arm != "real_adversarial" or app.kind == "adversarial"):
                classifier = self._tune(arm, run)
                judged[arm] = self._judge(arm, classifier)
        metrics = {
            names.finetune(arm, what): value
            for arm, of in judged.items()
            for what, value in vars(of).items()
        }
        metrics[names.SECONDS] = run.seconds
        title = f"{name}: fine-tuning ({app.kind}); dashed: before"
        figure = classifier_metrics_figure(
            figure_rows(judged), run.figures / "finetuning.png", title
        )
        path = run.path / "classifier.safetensors"
        save_classifier(path, classifier.network, self._card(judged["inverted"]))
        counts = len(self.real.train[1]), len(self.real.test[1])
        batch_size = self.run_cfg.data.batch_size
        return Result(
            metrics,
            step=app.steps,
            tables={"finetuning": table(name, judged, app, counts, batch_size, self.cfg.seed)},
            figures=[Figure(figure, "before and after fine-tuning")],
            artifacts=[Artifact("classifier", (path, path.with_suffix(".json")))],
            lines=[f"classifier: {path}"],
        )

    def _copy(self, run: RunContext) -> Classifier:
        """Return a trainable copy of the original classifier."""
        frozen = self.classifier
        network = build_network(self.description, frozen.spec)
        network.load_state_dict(frozen.network.state_dict())
        return Classifier(network, frozen.spec, like=frozen).to(run.device).eval()

    def _tune(self, arm: str, run: RunContext) -> Classifier:
        app, data = self.cfg.application, self.run_cfg.data
        extra = {"real": None, "real_adversarial": self.real.train, "inverted": self.inverted}
        loss = names.finetune(arm, "loss")
        return fine_tune(
            self._copy(run),
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

    def _card(self, judged: ClassifierQuality) -> dict[str, object]:
        app, data = self.cfg.application, self.run_cfg.data
        keys = ("run", "kind", "share", "images", "steps", "lr", "radius", "attack_steps")
        inverted = self.run_cfg.classifier.zoo or self.run_cfg.classifier.path
        recipe = {"application": "finetune", "from": str(inverted), "trained_before": True}
        recipe |= {key: app[key] for key in keys}
        recipe |= {
            key: data[key] for key in SPLIT_KEYS if key != "classes" or data[key] is not None
        }
        return card(self.classifier, self.description, self.real, judged, self.cfg.seed, recipe)
