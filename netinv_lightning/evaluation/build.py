"""Builders: what an inversion gets from its run, and the reports that a config describes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from omegaconf import DictConfig

from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.verifiers import load_verifiers
from netinv_lightning.config.method_schema import trains_generator
from netinv_lightning.config.plain import plain_dict
from netinv_lightning.config.schema import MeasureConfig
from netinv_lightning.evaluation.grid import GridCallback
from netinv_lightning.evaluation.real_data import open_real
from netinv_lightning.evaluation.report import Report
from netinv_lightning.inversion.base import FitContext
from netinv_lightning.tracking.run_context import RunContext
from netinv_lightning.training.monitor import monitor_callbacks
from netinv_lightning.training.trainer import make_trainer

QUICK_METRICS = ["accuracy", "transfer", "diversity"]
"""Measured of the baselines of a benchmark if `measure.full` is not set."""
QUICK_SAMPLES = 500


def build_fit_context(cfg: DictConfig, run: RunContext) -> FitContext:
    """Build what an inversion gets from its run; a grid is drawn while generators train."""
    app, monitor = cfg.application, cfg.monitor
    grid = GridCallback(run.figures, run.loggers, app.grid_every, app.grid_columns)
    return FitContext(
        run_dir=run.directory,
        loggers=run.loggers,
        make_trainer=partial(make_trainer, cfg),
        callbacks=[grid, *monitor_callbacks(monitor, run.directory.checkpoints, monitor.every)],
        checkpoint_every=app.checkpoint_every,
        channels_last=app.channels_last,
        compile=app.compile,
    )


def build_report(
    cfg: DictConfig,
    classifier: FrozenClassifier,
    verifiers: Mapping[str, FrozenClassifier],
    samples: int,
    followed: bool = False,
) -> Report:
    """Build the report of an inversion; with `measure.full`, open its real data.

    Args:
        cfg: Config of the inversion. An empty `loss` stands for images from a file.
        classifier: The inverted classifier.
        verifiers: Networks that the inversion does not use, by name.
        samples: Number of images to measure if `measure.samples` is null.
        followed: Whether another verdict follows.

    Raises:
        InputError: as `Report`, or if the data have another shape.
    """
    real, no_data = open_real(cfg.data, classifier) if cfg.measure.full else (None, "")
    return Report(
        MeasureConfig(**plain_dict(cfg.measure)),
        classifier,
        verifiers,
        real=real,
        no_data=no_data,
        samples=samples,
        name=cfg.name,
        seed=cfg.seed,
        weights=_weights(cfg),
        settings=_settings(cfg),
        hot=cfg.conditioning.vectors == "hot",
        followed=followed,
    )


def build_baseline_report(cfg: DictConfig, controls: list[str]) -> Report:
    """Build the report that measures the baselines of an experiment of a benchmark.

    Args:
        cfg: Config of one of its jobs.
        controls: Names of the baselines.

    Raises:
        InputError: as `build_report`, or if classifier or verifiers cannot be loaded.
    """
    cfg = cfg.copy()
    measure = cfg.measure
    measure.controls = controls
    if not measure.full:
        measure.full, measure.metrics = True, QUICK_METRICS
        measure.samples = measure.samples or QUICK_SAMPLES
    classifier = load_classifier(cfg)
    verifiers = load_verifiers(cfg.application.verifiers, cfg, classifier)
    return build_report(cfg, classifier, verifiers, cfg.application.eval_samples)


def _weights(cfg: DictConfig) -> dict[str, float] | None:
    """Return the weight of each term of the objective; None for images from a file."""
    return {str(term): float(keys.weight) for term, keys in cfg.loss.items()} or None


def _settings(cfg: DictConfig) -> dict[str, float]:
    """Return the keys that have an effect and that a diagnosis may suggest changing."""
    if not cfg.loss:
        return {}
    if not trains_generator(cfg):
        return {"method.steps": cfg.method.steps} if "steps" in cfg.method else {}
    dropout = {"generator.dropout": cfg.generator.dropout}
    if cfg.application.get("round_steps"):  # more steps would only prolong the last round
        return dropout
    return {"application.steps": cfg.application.steps, **dropout}
