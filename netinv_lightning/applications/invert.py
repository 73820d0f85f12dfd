"""`application=invert`: images to which a frozen classifier assigns the requested classes.

`method=generator` trains conditioned generators (Suhail et al. 2024, arXiv:2407.18002); the training
step is in `netinv_lightning/inversion/module.py`. The other methods optimise the images themselves,
see `netinv_lightning/inversion/methods/`. Every method is measured by the same code.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.build import load_verifiers
from netinv_lightning.classifiers.cache import train_once
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.schema import trains_generator
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.evaluation.grid import GridCallback, draw_grid
from netinv_lightning.evaluation.image_sets import Images, draw_images, write_samples
from netinv_lightning.evaluation.inversion_accuracy import evaluate
from netinv_lightning.evaluation.report import Report, last_losses
from netinv_lightning.figures import confusion_matrix
from netinv_lightning.interpretability.build import build_study
from netinv_lightning.inversion.base import FitContext
from netinv_lightning.inversion.build import build_inversion
from netinv_lightning.inversion.checkpoint import checkpoint_of
from netinv_lightning.inversion.cost import peak_memory_mb
from netinv_lightning.runs.run_directory import RunDir, first_process
from netinv_lightning.tracking.loggers import (
    TABLE_ROWS,
    check_logger,
    log_artifact,
    log_image,
    log_samples,
    open_loggers,
)
from netinv_lightning.tracking.run_context import RunContext
from netinv_lightning.training.trainer import check_trainer, make_trainer

log = logging.getLogger(__name__)


class InvertApplication:
    """Inverts the classifier that `cfg.classifier` names.

    A resumed run of `method=gradient` starts anew in the same directory, and makes the same images.
    """

    best_metric = names.INVERSION_ACCURACY
    concludes = False
    """Whether `afterwards` comes to a verdict of its own."""

    def __init__(self, cfg: DictConfig, classifier: FrozenClassifier | None = None) -> None:
        self.cfg = cfg
        if classifier is not None and cfg.classifier.train:
            raise InputError(
                "classifier.train=true: a network was handed over to be inverted; leave it out"
            )
        check_logger(cfg)
        processes = check_trainer(cfg)
        if (size := cfg.application.batch_size) % processes:
            raise InputError(
                f"application.batch_size={size}: must be a multiple of the {processes} processes that share it out"
            )
        if processes > 1 and not trains_generator(cfg):
            raise InputError(
                f"trainer.devices={cfg.trainer.devices}: method={cfg.method.name} works in one process; set trainer=default"
            )
        self.module = build_inversion(cfg, classifier)
        verifiers = load_verifiers(cfg.application.verifiers)
        self.verifiers = list(verifiers.values())
        self.study = (
            build_study(cfg, self.module.classifier, cfg.application.eval_samples)
            if cfg.interpret.full
            else None
        )
        self.report = Report(
            cfg, self.module.classifier, verifiers, cfg.application.eval_samples, self.concludes
        )

    @property
    def classifier(self) -> FrozenClassifier:
        return self.module.classifier

    def run(self, run_dir: RunDir) -> dict[str, float]:
        app, module = self.cfg.application, self.module
        with open_loggers(self.cfg, run_dir) as loggers:
            metrics = train_once(self.cfg, module.classifier, run_dir.path)
            start = time.perf_counter()
            module.fit(self._fit_context(run_dir, loggers))
            measured, confusion_NN = evaluate(
                module, app.eval_samples, app.eval_batch_size, self.cfg.seed, self.verifiers
            )
            cost = module.cost()
            step, seconds = cost.steps, time.perf_counter() - start + cost.earlier_seconds
            metrics |= cost.metrics() | measured
            metrics |= {names.PEAK_MEMORY_MB: peak_memory_mb(), names.SECONDS: seconds}
            if first_process():
                draw = draw_images(module, app.eval_batch_size, self.cfg.seed)
                metrics = (
                    self.report(run_dir.path, metrics | last_losses(run_dir.path), draw) | metrics
                )
                for logger in loggers:
                    logger.log_metrics(metrics, step=step)
                self._show(run_dir, loggers, draw(app.keep_samples), confusion_NN, step)
                metrics |= self.afterwards(run_dir, loggers, draw, step, metrics)
                print(
                    f"inversion accuracy: {metrics[names.INVERSION_ACCURACY]:.4f} (soft), {metrics[names.INVERSION_ACCURACY_HOT]:.4f} (hot)"
                )
                if (G := module.n_generators) > 1:
                    of_each = ", ".join(
                        f"{metrics[names.generator(names.INVERSION_ACCURACY, g)]:.4f}"
                        for g in range(G)
                    )
                    print(
                        f"of the generators, seeds {self.cfg.seed} to {self.cfg.seed + G - 1}: {of_each}"
                    )
        return metrics

    def _fit_context(self, run_dir: RunDir, loggers: list[Logger]) -> FitContext:
        app = self.cfg.application
        grid = GridCallback(run_dir.figures, loggers, app.grid_every, app.grid_columns)
        return FitContext(
            run_dir=run_dir,
            loggers=loggers,
            make_trainer=partial(make_trainer, self.cfg),
            callbacks=[grid],
            checkpoint_every=app.checkpoint_every,
            channels_last=app.channels_last,
            compile=app.compile,
        )

    def afterwards(
        self,
        run_dir: RunDir,
        loggers: list[Logger],
        draw: Callable[[int], Images],
        step: int,
        known: Mapping[str, float],
    ) -> dict[str, float]:
        """What is asked of the images once they are there, in one process; here `interpret=full`. Gives its metrics.

        `known` is what has been measured before. Images that cannot be studied do not take the inversion with them.
        """
        if self.study is None:
            return {}
        try:
            result = self.study(run_dir.figures, draw, step)
        except InputError as error:
            log.warning("not interpreted: %s", one_line(error))
            return {}
        run = RunContext(self.cfg, run_dir)
        run.loggers = loggers
        result.publish(run)
        return result.metrics

    def _show(
        self,
        run_dir: RunDir,
        loggers: list[Logger],
        samples: Images,
        confusion_NN: Tensor,
        step: int,
    ) -> None:
        """Samples, grid and confusion matrix, as files and in the loggers."""
        module, spec, seed = self.module, self.module.classifier.spec, self.cfg.seed
        app = self.cfg.application
        run_dir.samples.mkdir(exist_ok=True)
        write_samples(samples, run_dir.samples / "inverted.safetensors", spec)
        with torch.no_grad():
            logits_BN = module.classifier(samples.images_nCHW[:TABLE_ROWS].to(module.device))
        log_samples(
            loggers, samples.images_nCHW, samples.labels_n, logits_BN, spec.class_names, step
        )
        grid = draw_grid(
            module, app.grid_columns, seed, run_dir.figures / "grid.png", self.cfg.name
        )
        log_image(loggers, names.SAMPLES_GRID, grid, step, self.cfg.name)
        confusion = confusion_matrix(
            confusion_NN,
            spec.class_names,
            run_dir.figures / "confusion.png",
            module.conditioning.chosen,
        )
        log_image(
            loggers,
            names.INVERSION_CONFUSION,
            confusion,
            step,
            "rows: conditioned on; columns: predicted",
        )
        if (checkpoint := checkpoint_of(run_dir.path)).is_file():
            log_artifact(
                loggers,
                "generator",
                f"{self.cfg.name}-seed{seed}",
                checkpoint,
                run_dir.path / "config.yaml",
            )
        print(f"grid: {grid}")
