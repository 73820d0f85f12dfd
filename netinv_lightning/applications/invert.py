"""`application=invert`: makes images that a frozen classifier takes for what they are conditioned on, and measures them.

`method=generator` trains conditioned generators (S2 section 3); the training step is in netinv_lightning/inversion/module.py.
`method=gradient` optimises each image that is asked for; see netinv_lightning/inversion/methods/gradient.py.
`method=kkt` optimises candidates for training images that explain the weights; see netinv_lightning/inversion/methods/kkt.py.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.build import load_verifiers
from netinv_lightning.classifiers.cache import train_once
from netinv_lightning.classifiers.forward_count import ForwardCount
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.evaluation.image_sets import Images, draw_images, write_samples
from netinv_lightning.evaluation.inversion_accuracy import evaluate
from netinv_lightning.evaluation.report import Report, last_losses
from netinv_lightning.figures import confusion_matrix, image_grid
from netinv_lightning.interpretability.study import Study
from netinv_lightning.inversion.base import Inverter
from netinv_lightning.inversion.build import METHODS
from netinv_lightning.inversion.methods.gradient import PixelInversion
from netinv_lightning.inversion.methods.kkt import KktInversion
from netinv_lightning.inversion.module import InversionModule, NonFiniteError, Steps, first_reached
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
from netinv_lightning.training.checkpoints import Checkpoints
from netinv_lightning.training.distributed import sum_over_ranks
from netinv_lightning.training.progress import progress
from netinv_lightning.training.seeds import own_randomness
from netinv_lightning.training.snapshots import Snapshots
from netinv_lightning.training.trainer import check_trainer, expected_warnings, make_trainer

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
        if cfg.method.name != "generator" and processes > 1:
            raise InputError(
                f"trainer.devices={cfg.trainer.devices}: method={cfg.method.name} works in one process; set trainer=default"
            )
        self.module = METHODS[cfg.method.name](cfg, classifier)
        verifiers = load_verifiers(cfg.application.verifiers)
        self.verifiers = list(verifiers.values())
        self.study = (
            Study(cfg, self.module.classifier, cfg.application.eval_samples)
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
            earlier_seconds = 0.0
            if isinstance(module, InversionModule):
                metrics |= self._train(module, run_dir, loggers)
                earlier_seconds = (
                    module.earlier_seconds if run_dir.resuming else 0.0
                )  # processes that were spawned load it too
            else:
                self._set_up(module, loggers, run_dir)
            measured, confusion_NN = evaluate(
                module, app.eval_samples, app.eval_batch_size, self.cfg.seed, self.verifiers
            )
            if isinstance(module, PixelInversion):  # which makes images as they are asked for
                metrics |= _costs_of_drawing(module)
            step = len(module.step_seconds)
            metrics |= (
                measured
                | _memory()
                | {names.SECONDS: time.perf_counter() - start + earlier_seconds}
            )
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
                if (G := len(module.generators)) > 1:
                    of_each = ", ".join(
                        f"{metrics[names.generator(names.INVERSION_ACCURACY, g)]:.4f}"
                        for g in range(G)
                    )
                    print(
                        f"of the generators, seeds {self.cfg.seed} to {self.cfg.seed + G - 1}: {of_each}"
                    )
        return metrics

    def _train(
        self, module: InversionModule, run_dir: RunDir, loggers: list[Logger]
    ) -> dict[str, float]:
        """Trains the generators; gives what it cost."""
        app = self.cfg.application
        if app.channels_last:
            module = module.to(memory_format=torch.channels_last)
        if app.compile:
            for generator in module.generators:
                generator.compile()
            module.classifier.network.compile()
        checkpoints, passes = (
            Checkpoints(run_dir.checkpoints, app.checkpoint_every),
            TrainingPasses(module.classifier.forward_count),
        )
        trainer = make_trainer(
            self.cfg,
            callbacks=[
                GridCallback(run_dir, loggers, app.grid_every, app.grid_columns),
                *progress((names.INVERSION_ACCURACY_TRAIN, names.LOSS_TOTAL)),
                passes,
                checkpoints,
            ],
            loggers=loggers,
            max_steps=app.steps,
            log_every_n_steps=app.log_every,
        )
        with expected_warnings():
            trainer.fit(
                module,
                train_dataloaders=Steps(app.steps),
                ckpt_path=run_dir.last_checkpoint,
                weights_only=True,
            )
        if not module.step_seconds:  # processes that were spawned hand back the weights alone
            checkpoint = torch.load(checkpoints.last, map_location="cpu", weights_only=True)
            module.on_load_checkpoint(checkpoint)
            passes.load_state_dict(checkpoint["callbacks"][passes.state_key])
        module.to(trainer.strategy.root_device)
        seconds, images = (
            module.step_seconds[-1],
            app.batch_size * len(module.step_seconds) * len(module.generators),
        )
        costs = {
            names.TRAINING_SECONDS: seconds,
            names.IMAGES_PER_SECOND: images / seconds,
            names.GENERATOR_PARAMETERS: sum(
                weight.numel() for weight in module.generator.parameters()
            ),
            **passes.state_dict(),
        }
        return costs | _costs_of_reaching(module.reached())

    def _set_up(self, module: PixelInversion, loggers: list[Logger], run_dir: RunDir) -> None:
        """Nothing is trained; the Trainer's device and precision are where and how images will be optimised."""
        app = self.cfg.application
        if app.channels_last:
            module.classifier.to(memory_format=torch.channels_last)
        if app.compile:
            module.classifier.network.compile()
        trainer = make_trainer(self.cfg, callbacks=[], loggers=[], enable_checkpointing=False)
        module.to(trainer.strategy.root_device)
        precision = trainer.precision_plugin
        module.autocast, module.scaler = (
            precision.forward_context,
            getattr(precision, "scaler", None),
        )
        module.report = BatchReport(loggers, module.steps)
        if isinstance(module, KktInversion):
            module.snapshots = Snapshots(
                run_dir.checkpoints / "candidates.ckpt", run_dir.resuming, app.checkpoint_every
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
        write_samples(samples, run_dir.samples / "inverted.safetensors")
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
            confusion_NN, spec.class_names, run_dir.figures / "confusion.png"
        )
        log_image(
            loggers,
            names.INVERSION_CONFUSION,
            confusion,
            step,
            "rows: conditioned on; columns: predicted",
        )
        if (checkpoint := run_dir.checkpoints / "last.ckpt").is_file():
            log_artifact(
                loggers,
                "generator",
                f"{self.cfg.name}-seed{seed}",
                checkpoint,
                run_dir.path / "config.yaml",
            )
        print(f"grid: {grid}")


def draw_grid(module: Inverter, columns: int, seed: int, path: Path, title: str) -> Path:
    """Images of every class, conditioned on hot vectors, the same latents at every call: a column a sample, or a column
    for each of several generators (A8-2).
    """
    N, G = module.conditioning.num_classes, len(module.generators)
    label_X = torch.arange(N, device=module.device).repeat_interleave(columns if G == 1 else 1)
    with own_randomness(seed, module.device):
        drawn_G = [
            module.draw(module.conditioning.of_labels(label_X), g).unflatten(0, (N, -1))
            for g in range(G)
        ]
    names_of_columns = [f"generator {g}" for g in range(G)] if G > 1 else ()
    return image_grid(
        torch.cat(drawn_G, dim=1), module.classifier.spec.class_names, path, title, names_of_columns
    )


class GridCallback(Callback):
    """Draws the grid of classes while the generators train."""

    def __init__(self, run_dir: RunDir, loggers: list[Logger], every: int, columns: int) -> None:
        self.run_dir, self.loggers, self.every, self.columns = run_dir, loggers, every, columns

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        step = trainer.global_step
        if step % self.every or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, InversionModule)
        path = draw_grid(
            pl_module,
            self.columns,
            0,
            self.run_dir.figures / f"grid_step{step:06d}.png",
            f"step {step}",
        )
        log_image(self.loggers, names.SAMPLES_GRID, path, step, f"step {step}")


class TrainingPasses(Callback):
    """Counts the images that training passes through the classifier: over all its processes, and all parts of a resumed run."""

    def __init__(self, passes: ForwardCount) -> None:
        self.passes = passes
        self.earlier = {names.CLASSIFIER_FORWARDS: 0, names.CLASSIFIER_BACKWARDS: 0}
        self.start = self._counts()
        self.device = torch.device("cpu")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.device = pl_module.device

    def state_dict(self) -> dict[str, float]:
        """The counts by metric name; called by all processes, and the same in each."""
        counts = sum_over_ranks((self._counts() - self.start).to(self.device)).tolist()
        return {
            name: earlier + count
            for (name, earlier), count in zip(self.earlier.items(), counts, strict=True)
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.earlier = {name: state_dict[name] for name in self.earlier}

    def _counts(self) -> Tensor:
        return torch.tensor([self.passes.forwards, self.passes.backwards])


class BatchReport:
    """Logs the optimisation of the first batch of images, as a generator's training is logged, and says where each batch stands."""

    def __init__(self, loggers: list[Logger], steps: int, every_seconds: float = 10.0) -> None:
        self.loggers, self.steps, self.every_seconds = loggers, steps, every_seconds
        self._last = time.monotonic()

    def __call__(self, batch: int, step: int, values: Mapping[str, float]) -> None:
        if bad := [name for name, value in values.items() if not math.isfinite(value)]:
            raise NonFiniteError(
                f"{', '.join(bad)} is not finite at step {step} of batch {batch}; try a smaller method.lr"
            )
        if batch == 1:
            for logger in self.loggers:
                logger.log_metrics(dict(values), step=step)
        if step == self.steps or time.monotonic() - self._last >= self.every_seconds:
            self._last = time.monotonic()
            shown = "  ".join(
                f"{name} {values[name]:.4f}"
                for name in (names.INVERSION_ACCURACY_TRAIN, names.LOSS_TOTAL)
            )
            print(
                f"images: batch {batch}, step {step}/{self.steps}  {shown}",
                file=sys.stderr,
                flush=True,
            )


def _costs_of_drawing(module: PixelInversion) -> dict[str, float]:
    """What the images that were drawn so far have cost; steps and seconds to 0.95 are those of the first batch."""
    costs = {
        names.TRAINING_SECONDS: module.seconds,
        names.IMAGES_PER_SECOND: module.images * module.steps / module.seconds,
        names.CLASSIFIER_FORWARDS: module.forwards,
        names.CLASSIFIER_BACKWARDS: module.backwards,
    }
    return costs | _costs_of_reaching(first_reached(module.accuracies, module.step_seconds))


def _costs_of_reaching(reached: tuple[int, float] | None) -> dict[str, float]:
    return (
        dict(zip((names.STEPS_TO_95, names.SECONDS_TO_95), reached, strict=True)) if reached else {}
    )


def _memory() -> dict[str, float]:
    if torch.cuda.is_available():
        return {names.PEAK_MEMORY_MB: torch.cuda.max_memory_allocated() / 2**20}
    import resource

    return {names.PEAK_MEMORY_MB: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10}
