"""`application=distill`: a student learns a classifier's answers on the images of a finished inversion, without any data (S3).

    netinv application=distill application.run=RUN_DIRECTORY
    netinv application=distill application.run=RUN_DIRECTORY application.student._target_=netinv_lightning.classifiers.networks.ResNet

The run's generators make images in rounds, and begin anew in each; a run of `method=gradient` shows the images that it kept. Beside the
student stand a student of noise and the teacher itself. Real images judge both students when they are trained; nothing else sees them.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch import nn

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.architecture import build_network
from netinv_lightning.classifiers.build import training_split
from netinv_lightning.classifiers.checkpoints import save_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.downstream.build import open_test_data
from netinv_lightning.downstream.classifier_predictions import agreement, predict
from netinv_lightning.downstream.distillation import (
    DistillationResult,
    DrawBatch,
    distil,
)
from netinv_lightning.downstream.downstream_figures import student_images_figure
from netinv_lightning.downstream.feature_hint import FeatureHint
from netinv_lightning.downstream.generator_rounds import GeneratorRounds
from netinv_lightning.downstream.replay_buffer import ReplayBuffer, noise_batches
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.evaluation.finished_run import load_generators, open_finished
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.runs.finished_check import named_run
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.runs.tables import Cell, Table, show, write_table
from netinv_lightning.tracking.loggers import check_logger, log_artifact, log_image, open_loggers
from netinv_lightning.training.progress import log_progress
from netinv_lightning.training.seeds import own_randomness
from netinv_lightning.training.snapshots import Snapshots
from netinv_lightning.training.trainer import check_one_process, make_trainer

NOISE_STEPS = 300
"""At most so many has the control: noise has little to teach, and that is learnt soon (experiments/inverted_data)."""
PICTURED = 2000
"""About so many images of the memory are asked for the picture."""


class DistillApplication:
    """Distils the classifier that `cfg.application.run` inverted. The data root, the views and the logger are this command's."""

    best_metric = names.STUDENT_ACCURACY

    def __init__(self, cfg: DictConfig) -> None:
        check_logger(cfg)
        check_one_process(cfg)
        directory = named_run(cfg)
        run = open_finished(directory, "application.run", cfg)
        self.cfg, self.run_cfg, self.teacher = cfg, run.cfg, run.classifier
        self.generators = load_generators(run.cfg, directory)
        # The saved images of a run without generators.
        self.images_nCHW = (
            run.draw(run.samples).images_nCHW if self.generators is None else torch.empty(0)
        )
        try:
            self.augmentation = Augmentation(**cfg.augmentation)
        except ValueError as error:
            raise InputError(f"augmentation.{one_line(error)}") from error
        self.real, self.missing = open_test_data(run.cfg, self.teacher)
        student = self._student()  # refuses one that does not fit
        if cfg.application.features:
            try:
                FeatureHint(self.teacher, Classifier(student, self.teacher.spec))
            except ValueError as error:
                raise InputError(
                    f"application.features={cfg.application.features}: {error}; give application.features=0"
                ) from error

    @property
    def classifier(self) -> FrozenClassifier:
        return self.teacher

    def run(self, run_dir: RunDir) -> dict[str, float]:
        app, seed, start = self.cfg.application, self.cfg.seed, time.perf_counter()
        device = make_trainer(
            self.cfg, callbacks=[], loggers=[], enable_checkpointing=False
        ).strategy.root_device
        self.teacher.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with open_loggers(self.cfg, run_dir) as loggers:
            buffer = ReplayBuffer(app.batch_size, seed, device)
            rounds = self._rounds(buffer, device, run_dir.checkpoints)
            student = self._distilled("student", buffer.draw, app.steps, loggers, rounds, run_dir)
            noise = noise_batches(self.teacher.spec, app.batch_size, seed, device)
            control = self._distilled(
                "student of noise", noise, min(app.steps, NOISE_STEPS), [], None, run_dir
            )
            metrics = {
                names.STUDENT_AGREEMENT_FRESH: student.agreement_fresh,
                names.noise_student("agreement_fresh"): control.agreement_fresh,
                names.SECONDS: time.perf_counter() - start,
            }
            if self.real is not None:
                images_nCHW, label_n = self.real.test
                measured = {
                    names.STUDENT_ACCURACY: student.accuracy,
                    names.STUDENT_AGREEMENT: student.agreement,
                    names.noise_student("accuracy"): control.accuracy,
                    names.noise_student("agreement"): control.agreement,
                    names.TEACHER_ACCURACY: agreement(predict(self.teacher, images_nCHW), label_n),
                }
                metrics |= {name: value for name, value in measured.items() if value is not None}
            for logger in loggers:
                logger.log_metrics(metrics, step=app.steps)
            table = self._table(metrics, len(buffer))
            write_table(table, run_dir.path, "distillation")
            show(table)
            figure = self._figure(buffer, run_dir)
            log_image(
                loggers,
                names.figure("taught"),
                figure,
                app.steps,
                "what the student learnt from, by its teacher's answer",
            )
            path = run_dir.path / "student.safetensors"
            save_classifier(path, student.student.network, self._card(metrics))
            log_artifact(
                loggers,
                "classifier",
                f"{self.cfg.name}-seed{seed}",
                path,
                path.with_suffix(".json"),
            )
            print(f"student: {path}")
        return metrics

    def _rounds(
        self, buffer: ReplayBuffer, device: torch.device, folder: Path
    ) -> GeneratorRounds | None:
        """What fills the memory in rounds; without generators the images that the run kept are all that will be in it."""
        app = self.cfg.application
        if self.generators is None:
            buffer.add(self.images_nCHW)
            return None
        module, seed = self.generators.to(device), self.cfg.seed
        return GeneratorRounds(
            module,
            buffer,
            self.augmentation,
            app.adversarial,
            app.temperature,
            app.every,
            seed,
            folder=folder,
        )

    def _distilled(
        self,
        told: str,
        draw: DrawBatch,
        steps: int,
        loggers: list[Logger],
        rounds: GeneratorRounds | None,
        run_dir: RunDir,
    ) -> DistillationResult:
        """Trains a student on what `draw` gives, and judges it by the real test images, where there are any."""
        app = self.cfg.application
        path = run_dir.checkpoints / f"{told.replace(' ', '_')}.ckpt"
        snapshots = Snapshots(
            path,
            run_dir.resuming,
            app.checkpoint_every,
            {"adversary": rounds} if rounds else {},
        )
        return distil(
            self.teacher,
            draw,
            self._student(),
            None if self.real is None else self.real.test,
            steps=steps,
            lr=app.lr,
            temperature=app.temperature,
            features=app.features,
            augmentation=self.augmentation,
            mix=True,
            before_step=rounds,
            new_images=rounds.new_round if rounds else None,
            seed=self.cfg.seed,
            on_step=log_progress(told, steps, loggers, names.STUDENT_LOSS),
            snapshots=snapshots,
        )

    def _student(self) -> nn.Module:
        """An untrained student, the same at every call.

        Raises:
            InputError: if it cannot be made, or does not fit the classifier's data.
        """
        spec, description = self.teacher.spec, self._description()
        try:
            with own_randomness(self.cfg.seed, torch.device("cpu")):
                network = build_network(description, spec)
            FrozenClassifier(network, spec, ())  # refuses shapes that do not fit
        except InputError as error:
            raise InputError(
                f"application.student={description}: {one_line(error).partition(': ')[2]}"
            ) from error
        return network.requires_grad_(True)

    def _description(self) -> dict[str, Any]:
        description: Any = OmegaConf.to_container(self.cfg.application.student, resolve=True)
        return {str(key): value for key, value in description.items()}

    def _table(self, metrics: dict[str, float], images: int) -> Table:
        app = self.cfg.application
        rows: list[list[Cell]] = [
            ["student of inverted images", app.steps, *map(metrics.get, STUDENT)],
            [
                "student of noise (control)",
                min(app.steps, NOISE_STEPS),
                *map(metrics.get, NOISE_STUDENT),
            ],
            [
                "teacher",
                None,
                1.0,
                None if self.real is None else 1.0,
                metrics.get(names.TEACHER_ACCURACY),
            ],
        ]
        made = (
            f"made in rounds, one every {app.every} steps; disagreement weighs {app.adversarial:g}"
        )
        origin = made if self.generators is not None else "that the run kept"
        network = self._description()["_target_"].rpartition(".")[2]
        notes = [
            f"student: {network}; {images} images {origin}; {app.batch_size} a step; temperature {app.temperature:g}; seed {self.cfg.seed}",
            "agreement (own images): with the teacher, on images of the kind that the student learnt on; of rounds on a new one's",
            self.missing
            or "agreement, accuracy: with the teacher and with the labels, on all real test images",
        ]
        columns = ["network", "steps", "agreement (own images)", "agreement", "accuracy"]
        return Table(f"{self.run_cfg.name}: data-free distillation", columns, rows, notes)

    def _figure(self, buffer: ReplayBuffer, run_dir: RunDir) -> Path:
        """What the student learnt from."""
        images_nCHW, spec = (
            buffer.images_nCHW[:: max(1, len(buffer) // PICTURED)],
            self.teacher.spec,
        )
        title = f"{self.run_cfg.name}: what the student learnt from, by its teacher's answer, the oldest left"
        predicted_n = predict(self.teacher, images_nCHW)
        return student_images_figure(
            to_unit_range(images_nCHW),
            predicted_n,
            spec.class_names,
            run_dir.figures / "taught.png",
            title,
        )

    def _card(self, metrics: dict[str, float]) -> dict[str, Any]:
        """What the student is, so that other commands can use it."""
        student, app = self._student(), self.cfg.application
        recipe = {
            key: app[key]
            for key in (
                "run",
                "steps",
                "batch_size",
                "lr",
                "temperature",
                "features",
                "adversarial",
                "every",
            )
        }
        return {
            "name": "student",
            "data": self.teacher.spec.as_dict(),
            "network": self._description(),
            "parameters": sum(parameter.numel() for parameter in student.parameters()),
            "training_images": 0,
            "test_images": 0 if self.real is None else len(self.real.test[1]),
            "test_accuracy": round(metrics.get(names.STUDENT_ACCURACY, float("nan")), 4),
            "seed": self.cfg.seed,
            "recipe": {"application": "distill", **recipe, **training_split(self.run_cfg)},
        }


NOISE_STUDENT = [names.noise_student(what) for what in ("agreement_fresh", "agreement", "accuracy")]
STUDENT = (names.STUDENT_AGREEMENT_FRESH, names.STUDENT_AGREEMENT, names.STUDENT_ACCURACY)
