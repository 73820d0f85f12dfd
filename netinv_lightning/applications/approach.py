"""`application=approach`: images that reach a given distribution, logits, neuron or feature vector.

    netinv application=approach application.target=soft \
        'application.vector=[.5,0,0,.5,0,0,0,0,0,0]'
    netinv application=approach application.target=features \
        application.file=runs/latest/samples/inverted.safetensors

The images are optimised by gradient descent on the pixels in float32, whatever `method` is; see
netinv_lightning/inversion/methods/targets.py for the reason and the mathematics. The error is
measured on the finished images, without augmentation, and compared with that of uniform noise and,
for features, that of an unrelated target.
"""

from __future__ import annotations

from functools import partial

from netinv_lightning import metric_names as names
from netinv_lightning.applications.base import Application
from netinv_lightning.classifiers.build import load_classifier, load_with_layer
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.verifiers import load_verifiers
from netinv_lightning.evaluation.given_targets import given_targets
from netinv_lightning.evaluation.measurement import Measurement
from netinv_lightning.evaluation.target_measurement import measure_targets
from netinv_lightning.evaluation.target_result import target_result
from netinv_lightning.inversion.base import FitContext
from netinv_lightning.inversion.build import build_target_inversion
from netinv_lightning.tracking.result import Result
from netinv_lightning.tracking.run_context import RunContext
from netinv_lightning.training.trainer import make_trainer


class ApproachApplication(Application):
    """Approaches the targets that `application` names."""

    best_metric = names.TARGET_CLOSED
    classifier: FrozenClassifier

    def check(self) -> None:
        cfg, app = self.cfg, self.cfg.application
        self.classifier = (
            load_with_layer(cfg, app.layer, "application.layer")
            if app.target in ("neuron", "features")
            else load_classifier(cfg)
        )
        self.verifiers = load_verifiers(app.verifiers, cfg, self.classifier)
        Measurement(self.classifier, self.verifiers, None, ["accuracy"], cfg.seed)  # checks them
        self.inversion = build_target_inversion(cfg, self.classifier)
        given_targets(app, self.classifier)  # raises for targets that do not fit
        if app.target == "neuron" and app.value is None:
            self.best_metric = names.TARGET_REACHED

    def compute(self, run: RunContext) -> Result:
        app, seed, inversion = self.cfg.application, self.cfg.seed, self.inversion
        inversion.fit(FitContext(run.directory, run.loggers, partial(make_trainer, self.cfg)))
        # Read again: the classifier may have been trained and moved since then.
        given = given_targets(app, self.classifier)
        x_nCHW, row_n = inversion.approach(given.targets, app.images, seed)
        verifiers = [verifier.to(run.device) for verifier in self.verifiers.values()]
        metrics, error_n = measure_targets(x_nCHW, row_n, given, self.classifier, verifiers, seed)
        metrics |= {names.TRAINING_SECONDS: inversion.seconds, names.SECONDS: run.seconds}
        return target_result(
            given,
            run,
            metrics,
            x_nCHW=x_nCHW,
            row_n=row_n,
            error_n=error_n,
            step=inversion.steps,
        )
