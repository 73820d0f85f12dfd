"""`application=invert`: images to which a frozen classifier assigns the requested classes.

`method=generator` trains conditioned generators (Suhail, Tang and Sethi 2024, arXiv 2411.17777,
section 3). Its training step is in `netinv_lightning/inversion/module.py`. The other methods, in
`netinv_lightning/inversion/methods/`, optimise the images themselves. Every method is measured by
the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from netinv_lightning import metric_names as names
from netinv_lightning.applications.base import Application
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.verifiers import NO_VERIFIERS, load_verifiers
from netinv_lightning.evaluation.build import build_fit_context, build_report
from netinv_lightning.evaluation.image_sets import Images, draw_images
from netinv_lightning.evaluation.inversion_accuracy import evaluate
from netinv_lightning.evaluation.inversion_result import accuracy_lines, inversion_result
from netinv_lightning.evaluation.report import last_losses
from netinv_lightning.inversion.build import build_inversion, check_processes
from netinv_lightning.runs.notices import notice
from netinv_lightning.runs.peers import first_process
from netinv_lightning.tracking.result import Result
from netinv_lightning.tracking.run_context import RunContext

if TYPE_CHECKING:
    from netinv_lightning.interpretability.study import FeatureStudy


class InvertApplication(Application):
    """Inverts the classifier that `cfg.classifier` describes.

    A resumed run of `method=gradient` starts again in the same directory and makes the same images.

    Args:
        cfg: The config of the run.
        network: The classifier, if it is not the one that `cfg.classifier` describes.

    Attributes:
        module: The inversion method.
        concludes: Whether `afterwards` replaces the verdict of the report.
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
        check_processes(cfg, self.processes)
        self.module = build_inversion(cfg, self.network)
        self.classifier = self.module.classifier.whole
        self.verifiers = load_verifiers(app.verifiers, cfg, self.classifier)
        if not self.verifiers:
            notice(NO_VERIFIERS)
        elif self.best_metric == names.INVERSION_ACCURACY:
            self.best_metric = names.TRANSFER_ACCURACY
        self.study = self._study()
        self.report = build_report(
            cfg, self.classifier, self.verifiers, app.eval_samples, followed=self.concludes
        )

    def _study(self) -> FeatureStudy | None:
        if not self.cfg.interpret.full:
            return None
        from netinv_lightning.interpretability.build import build_study  # slow: scikit-learn

        return build_study(self.cfg, self.classifier, self.cfg.application.eval_samples)

    def compute(self, run: RunContext) -> Result:
        app, seed = self.cfg.application, self.cfg.seed
        self.module.fit(build_fit_context(self.cfg, run))
        metrics, confusion_NN = evaluate(
            self.module, app.eval_samples, app.eval_batch_size, seed, self.verifiers
        )
        cost = self.module.cost()
        metrics = run.trained | cost.metrics(self.classifier.access != "weights") | metrics
        metrics |= self.module.metrics()
        metrics[names.SECONDS] = run.seconds + cost.earlier_seconds
        if not first_process():
            return Result(metrics)
        draw = draw_images(self.module, app.eval_batch_size, seed)
        metrics = self.report(run.path, metrics | last_losses(run.path), draw) | metrics
        result = inversion_result(
            self.module,
            run,
            metrics,
            samples=draw(app.keep_samples),
            confusion_NN=confusion_NN,
            step=cost.steps,
        )
        self.afterwards(run, result, draw)
        result.lines = [*result.lines, *accuracy_lines(metrics, self.module.n_generators, seed)]
        return result

    def afterwards(self, run: RunContext, result: Result, draw: Callable[[int], Images]) -> None:
        """Add further analyses of the images to the result: the feature study of `interpret=full`.

        If the images cannot be studied, the run does not fail.

        Args:
            run: The run; only its first process calls this method.
            result: What has been found so far.
            draw: Function from a number to inverted images.
        """
        if (study := self.study) is not None:
            part = partial(study, run.figures, draw, result.step or 0)
            result.include_unless_refused("not interpreted", part)
