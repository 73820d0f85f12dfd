"""`application=invert`: images to which a frozen classifier assigns the requested classes.

`method=generator` trains conditioned generators (Suhail, Tang and Sethi 2024, arXiv 2411.17777,
section 3). Its training step is in `netinv_lightning/inversion/module.py`. The other methods, in
`netinv_lightning/inversion/methods/`, optimise the images themselves. Every method is measured by
the same code.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from omegaconf import DictConfig

from netinv_lightning import metric_names as names
from netinv_lightning.applications.base import Application
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.verifiers import NO_VERIFIERS, load_verifiers
from netinv_lightning.config.method_schema import trains_generator
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.evaluation.build import build_report
from netinv_lightning.evaluation.grid import GridCallback
from netinv_lightning.evaluation.image_sets import Images, draw_images
from netinv_lightning.evaluation.inversion_accuracy import evaluate
from netinv_lightning.evaluation.inversion_result import accuracy_lines, inversion_result
from netinv_lightning.evaluation.report import last_losses
from netinv_lightning.interpretability.build import build_study
from netinv_lightning.inversion.base import FitContext
from netinv_lightning.inversion.build import build_inversion
from netinv_lightning.inversion.cost import peak_memory_mb
from netinv_lightning.runs.notices import notice
from netinv_lightning.runs.peers import first_process
from netinv_lightning.tracking.result import Result
from netinv_lightning.tracking.run_context import RunContext
from netinv_lightning.training.monitor import monitor_callbacks
from netinv_lightning.training.trainer import make_trainer

log = logging.getLogger(__name__)


class InvertApplication(Application):
    """Inverts the classifier that `cfg.classifier` describes.

    A resumed run of `method=gradient` starts again in the same directory and makes the same images.

    Args:
        cfg: The config of the run.
        network: The classifier, if it is not the one that `cfg.classifier` describes.

    Attributes:
        module: The inversion method.
        concludes: Whether `afterwards` comes to a verdict of its own.
    """

    best_metric = names.INVERSION_ACCURACY
    one_process = False
    concludes = False
    classifier: FrozenClassifier

    def __init__(self, cfg: DictConfig, network: FrozenClassifier | None = None) -> None:
        self.network = network
        super().__init__(cfg)

    def check(self) -> None:
        cfg, app = self.cfg, self.cfg.application
        if self.network is not None and cfg.classifier.train:
            raise InputError(
                "classifier.train=true: a network was handed over to be inverted; leave it out"
            )
        if app.batch_size % self.processes:
            raise InputError(
                f"application.batch_size={app.batch_size}: must be a multiple of the "
                f"{self.processes} processes, which share it"
            )
        if self.processes > 1 and not trains_generator(cfg):
            raise InputError(
                f"trainer.devices={cfg.trainer.devices}: method={cfg.method.name} works in one "
                "process. Set trainer=default"
            )
        self.module = build_inversion(cfg, self.network)
        self.classifier = self.module.classifier
        self.verifiers = load_verifiers(app.verifiers, cfg, self.classifier)
        if not self.verifiers:
            notice(NO_VERIFIERS)
        self.study = (
            build_study(cfg, self.classifier, app.eval_samples) if cfg.interpret.full else None
        )
        self.report = build_report(
            cfg, self.classifier, self.verifiers, app.eval_samples, followed=self.concludes
        )

    def compute(self, run: RunContext) -> Result:
        app, seed = self.cfg.application, self.cfg.seed
        self.module.fit(self._fit_context(run))
        metrics, confusion_NN = evaluate(
            self.module,
            app.eval_samples,
            app.eval_batch_size,
            seed,
            list(self.verifiers.values()),
        )
        cost = self.module.cost()
        metrics = run.trained | cost.metrics() | metrics
        if self.classifier.access != "weights":
            metrics[names.QUERIES] = cost.forwards
        metrics[names.PEAK_MEMORY_MB] = peak_memory_mb()
        metrics[names.SECONDS] = run.seconds + cost.earlier_seconds
        if not first_process():
            return Result(metrics)
        draw = draw_images(self.module, app.eval_batch_size, seed)
        metrics = self.report(run.path, metrics | last_losses(run.path), draw) | metrics
        result = inversion_result(
            self.module,
            run,
            samples=draw(app.keep_samples),
            confusion_NN=confusion_NN,
            grid_columns=app.grid_columns,
            step=cost.steps,
        )
        result.metrics = metrics
        self.afterwards(run, result, draw)
        result.lines = [*result.lines, *accuracy_lines(metrics, self.module.n_generators, seed)]
        return result

    def _fit_context(self, run: RunContext) -> FitContext:
        app, monitor = self.cfg.application, self.cfg.monitor
        grid = GridCallback(run.figures, run.loggers, app.grid_every, app.grid_columns)
        return FitContext(
            run_dir=run.directory,
            loggers=run.loggers,
            make_trainer=partial(make_trainer, self.cfg),
            callbacks=[grid, *monitor_callbacks(monitor, run.directory.checkpoints, monitor.every)],
            checkpoint_every=app.checkpoint_every,
            channels_last=app.channels_last,
            compile=app.compile,
        )

    def afterwards(self, run: RunContext, result: Result, draw: Callable[[int], Images]) -> None:
        """Add to the result what else is asked of the images; here, with `interpret=full`, a study.

        Images that cannot be studied are no failure of the inversion.

        Args:
            run: The run; only its first process comes here.
            result: What has been found so far.
            draw: Function from a number to inverted images.
        """
        if self.study is None:
            return
        try:
            result.include(self.study(run.figures, draw, result.step or 0))
        except InputError as error:
            log.warning("not interpreted: %s", one_line(error))
