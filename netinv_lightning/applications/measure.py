"""`application=measure`: measures a finished run, or a file of images, beside controls, and judges what the images are.

    netinv application=measure application.run=runs/latest
    netinv application=measure application.samples=mine.safetensors data=mnist application.verifiers=[mnist_mlp]

Shape suffixes: n images, C channels, H height, W width, N classes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.build import load_classifier, load_verifiers
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.finished_run import open_finished
from netinv_lightning.evaluation.image_sets import Images, read_samples
from netinv_lightning.evaluation.report import Report, last_losses
from netinv_lightning.runs.run_directory import RunDir


class MeasureApplication:
    """Measures what `cfg.application` names; its data root and what is measured are this command's, all else the run's."""

    best_metric = names.TRANSFER_ACCURACY

    def __init__(self, cfg: DictConfig) -> None:
        app = cfg.application
        if bool(app.run) == bool(app.samples):
            raise InputError(
                "application.run: give a run directory, or application.samples=FILE.safetensors (one of the two)"
            )
        self.known: dict[str, float] = {}
        self.draw: Callable[[int], Images]
        measured_cfg = (
            self._take_run(cfg, Path(app.run))
            if app.run
            else self._take_file(cfg, Path(app.samples))
        )
        asked = (
            app.verifiers
            if app.verifiers is not None
            else measured_cfg.application.get("verifiers") or []
        )
        self.report = Report(measured_cfg, self.classifier, load_verifiers(asked), self.samples)
        if app.samples is not None:
            self.report.check(self.draw(self.report.samples))

    def run(self, run_dir: RunDir) -> dict[str, float]:
        return self.known | self.report(run_dir.path, self.known, self.draw)

    def _take_run(self, cfg: DictConfig, directory: Path) -> DictConfig:
        """The config of a finished run, with what it left."""
        run = open_finished(directory, "measure.samples", cfg)
        summary = run.summary
        if (
            cfg.application.verifiers is not None
        ):  # then what other networks said is not what these say
            summary = {
                name: value for name, value in summary.items() if not name.startswith("transfer/")
            }
        self.known = summary | last_losses(directory)
        self.classifier, self.samples, self.draw = run.classifier, run.samples, run.draw
        run.cfg.measure = cfg.measure
        run.cfg.measure.full = True
        return run.cfg

    def _take_file(self, cfg: DictConfig, path: Path) -> DictConfig:
        """The command's own config, without an objective: what the images were optimised for is not known."""
        cfg = cfg.copy()
        cfg.loss, cfg.measure.full = {}, True
        self.classifier = load_classifier(cfg)
        images = read_samples(path, f"application.samples={path}")
        self.samples, self.draw = len(images.labels_n), partial(images.first, "measure.samples")
        return cfg
