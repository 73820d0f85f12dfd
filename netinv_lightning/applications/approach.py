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
from pathlib import Path

import torch
from omegaconf import DictConfig
from safetensors.torch import save_file
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.applications.base import Application
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.verifiers import load_verifiers
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.evaluation.given_targets import GivenTargets, given_targets
from netinv_lightning.evaluation.measurement import Measurement
from netinv_lightning.evaluation.target_measurement import measure_targets, target_line
from netinv_lightning.figures import image_grid
from netinv_lightning.inversion.base import FitContext
from netinv_lightning.inversion.build import build_augmentation
from netinv_lightning.inversion.build_objective import choose_terms
from netinv_lightning.inversion.methods.approach import PRIORS, TargetInversion
from netinv_lightning.tracking.result import Figure, Result
from netinv_lightning.tracking.run_context import RunContext
from netinv_lightning.training.trainer import make_trainer

DESCENT_KEYS = ("steps", "lr", "parametrisation", "jitter", "init_std", "log_every")


class ApproachApplication(Application):
    """Approaches the targets that `application` names."""

    best_metric = names.TARGET_CLOSED
    classifier: FrozenClassifier

    def check(self) -> None:
        cfg, app = self.cfg, self.cfg.application
        self.classifier = _classifier(cfg)
        if self.classifier.trained:  # otherwise its weights may be zero
            self.classifier.check_gradient()
        self.verifiers = load_verifiers(app.verifiers, cfg, self.classifier)
        Measurement(self.classifier, self.verifiers, None, ["accuracy"], cfg.seed)  # checks them
        self.inversion = self._inversion()
        given_targets(app, self.classifier)  # raises for targets that do not fit
        if app.target == "neuron" and app.value is None:
            self.best_metric = names.TARGET_REACHED

    def compute(self, run: RunContext) -> Result:
        app, seed, classifier = self.cfg.application, self.cfg.seed, self.classifier
        inversion = self.inversion
        inversion.fit(FitContext(run.directory, run.loggers, partial(make_trainer, self.cfg)))
        # Read again: the classifier may have been trained and moved since then.
        given = given_targets(app, classifier)
        x_nCHW, row_n = inversion.approach(given.targets, app.images, seed)
        verifiers = [verifier.to(run.device) for verifier in self.verifiers.values()]
        metrics, error_n = measure_targets(x_nCHW, row_n, given, classifier, verifiers, seed)
        metrics |= {names.TRAINING_SECONDS: inversion.seconds, names.SECONDS: run.seconds}
        tensors = {"images": x_nCHW, "target": row_n, "error": error_n, **given.tensors()}
        save_file(
            {name: x.cpu().contiguous() for name, x in tensors.items()},
            run.samples / "approached.safetensors",
        )
        grid = self._draw(x_nCHW, given, run.figures / "approached.png")
        line = target_line(app.target, app.images, metrics, given.targets)
        return Result(
            metrics,
            step=inversion.steps,
            figures=[Figure(grid, self.cfg.name, names.SAMPLES_GRID)],
            lines=[line],
        )

    def _inversion(self) -> TargetInversion:
        cfg, app = self.cfg, self.cfg.application
        choose_terms(cfg, self.classifier)
        priors = {
            name: dict(options)
            for name, options in cfg.loss.items()
            if name in PRIORS or "_target_" in options
        }
        options = {key: app[key] for key in DESCENT_KEYS}
        if (most := cfg.trainer.get("max_steps") or 0) > 0:
            options["steps"] = min(app.steps, most)
        try:
            return TargetInversion(
                self.classifier,
                priors,
                augmentation=build_augmentation(cfg, self.classifier),
                **options,
            )
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"application.{one_line(error)}") from error

    def _draw(self, x_nCHW: Tensor, given: GivenTargets, path: Path) -> Path:
        """Draw one row per target, after the image that the target comes from."""
        x_tKCHW = x_nCHW.unflatten(0, (len(given.targets), -1))
        column_names: list[str] = []
        if (originals_tCHW := given.originals_tCHW) is not None:
            x_tKCHW = torch.cat([originals_tCHW[:, None], x_tKCHW], dim=1)
            column_names = ["original"]
        return image_grid(x_tKCHW, given.row_names, path, self.cfg.name, column_names)


def _classifier(cfg: DictConfig) -> FrozenClassifier:
    """Return the classifier with `application.layer` among its feature layers."""
    layer, layers = cfg.application.layer, cfg.classifier.feature_layers
    if cfg.application.target not in ("neuron", "features") or layer in layers:
        return load_classifier(cfg)
    cfg = cfg.copy()
    cfg.classifier.feature_layers = [*layers, layer]
    try:
        return load_classifier(cfg)
    except InputError as error:
        named = f"classifier.feature_layers={layer}:"
        raise InputError(str(error).replace(named, f"application.layer={layer}:")) from error
