"""`application=measure`: measure the images of a finished run or of a file, and baselines.

    netinv application=measure application.run=runs/latest
    netinv application=measure application.samples=mine.safetensors data=mnist \
        application.verifiers=[mnist_mlp]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from netinv_lightning import metric_names as names
from netinv_lightning.applications.base import Application
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.verifiers import load_verifiers
from netinv_lightning.evaluation.build import build_report
from netinv_lightning.evaluation.finished_run import open_finished
from netinv_lightning.evaluation.image_sets import Images, read_samples
from netinv_lightning.evaluation.report import last_losses
from netinv_lightning.tracking.result import Result
from netinv_lightning.tracking.run_context import RunContext


class MeasureApplication(Application):
    """Measures the images that `application.run` or `application.samples` names.

    The data root, `measure` and the verifiers come from the command, everything else from the run.
    """

    best_metric = names.TRANSFER_ACCURACY
    classifier: FrozenClassifier

    def check(self) -> None:
        app = self.cfg.application
        self.known: dict[str, float] = {}
        self.draw: Callable[[int], Images]
        self.draw_hot: Callable[[int], Images] | None = None
        measured = self._open_run(Path(app.run)) if app.run else self._open_file(Path(app.samples))
        named = app.verifiers
        if named is None:
            named = measured.application.get("verifiers") or []
        verifiers = load_verifiers(named, measured, self.classifier)
        self.report = build_report(measured, self.classifier, verifiers, self.samples)
        if app.samples is not None:
            self.report.check(self.draw(self.report.samples))

    def compute(self, run: RunContext) -> Result:
        measured = self.report(run.path, self.known, self.draw, self.draw_hot)
        return Result(self.known | measured, step=None)

    def _open_run(self, directory: Path) -> DictConfig:
        """Return the config of a finished run; store its summary and the source of its images."""
        run = open_finished(directory, "measure.samples", self.cfg)
        summary = run.summary
        if self.cfg.application.verifiers is not None:  # those of the summary used other verifiers
            summary = {
                name: value for name, value in summary.items() if not name.startswith("transfer/")
            }
        self.known = summary | last_losses(directory)
        self.classifier, self.samples, self.draw = run.classifier, run.samples, run.draw
        if names.TRANSFER_ACCURACY_HOT not in summary:
            self.draw_hot = run.draw_hot
        run.cfg.measure = self.cfg.measure
        run.cfg.measure.full = True
        return run.cfg

    def _open_file(self, path: Path) -> DictConfig:
        """Return the config of the command without the objective, which is unknown for a file."""
        cfg = self.cfg.copy()
        cfg.loss, cfg.measure.full = {}, True
        self.classifier = load_classifier(cfg)
        images = read_samples(path, f"application.samples={path}", self.classifier.spec)
        self.samples, self.draw = len(images.labels_n), partial(images.first, "measure.samples")
        return cfg
