"""`application=distill`: train a student network on inverted images, without data.

    netinv application=distill application.run=RUN_DIRECTORY
    netinv application=distill application.run=RUN_DIRECTORY \
        application.student._target_=netinv_lightning.classifiers.networks.ResNet

The student learns the outputs of the classifier, its teacher (Taparia, supervised research slides).
The generators of the run make the images in rounds and restart in each; a run without generators
provides the images that it saved. Results are compared with a student of noise and with the
teacher. Real images are used for the evaluation only.
"""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn

from netinv_lightning import metric_names as names
from netinv_lightning.applications.base import Application
from netinv_lightning.classifiers.build import training_split
from netinv_lightning.classifiers.checkpoints import save_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import require_images
from netinv_lightning.downstream.build import open_test_data
from netinv_lightning.downstream.distill_report import (
    RECIPE_KEYS,
    distill_metrics,
    distill_table,
    draw_student_images,
    student_card,
)
from netinv_lightning.downstream.distillation import DistillationResult, DrawBatch, distil
from netinv_lightning.downstream.generator_rounds import GeneratorRounds
from netinv_lightning.downstream.replay_buffer import ReplayBuffer, noise_batches
from netinv_lightning.downstream.student import build_student, check_hint
from netinv_lightning.evaluation.finished_run import load_generators, open_finished
from netinv_lightning.inversion.build import build_augmentation
from netinv_lightning.inversion.micro_batches import check_parts
from netinv_lightning.runs.finished_check import named_run
from netinv_lightning.tracking.result import Artifact, Figure, Result
from netinv_lightning.tracking.run_context import RunContext
from netinv_lightning.training.progress import log_progress

NOISE_STEPS = 300
"""Most training steps of the control, which converges early (experiments/inverted_data)."""


class DistillApplication(Application):
    """Distils the classifier that the run `application.run` inverted.

    The data root, `augmentation` and the logger come from the command.
    """

    best_metric = names.STUDENT_ACCURACY
    classifier: FrozenClassifier

    def check(self) -> None:
        cfg, directory = self.cfg, named_run(self.cfg)
        run = open_finished(directory, "application.run", cfg)
        self.run_cfg, self.classifier = run.cfg, run.classifier
        require_images(self.classifier.spec, "application=distill")
        self.generators = load_generators(run.cfg, directory)
        # The saved images of a run without generators.
        self.images_nCHW = (
            run.draw(run.samples).images_nCHW if self.generators is None else torch.empty(0)
        )
        self.real, self.missing = open_test_data(run.cfg, self.classifier)
        network: Any = OmegaConf.to_container(cfg.application.student, resolve=True)
        self.network: dict[str, Any] = {str(key): value for key, value in network.items()}
        student = self._student()
        self.augmentation = build_augmentation(cfg, self.classifier, student)
        check_hint(self.classifier, student, cfg.application.features)
        if (micro_batch := cfg.application.micro_batch) is not None:
            check_parts(self.classifier, micro_batch)
            check_parts(FrozenClassifier(student, self.classifier.spec, ()), micro_batch)

    def compute(self, run: RunContext) -> Result:
        app, seed, teacher = self.cfg.application, self.cfg.seed, self.classifier
        name, test = self.run_cfg.name, None if self.real is None else self.real.test
        teacher.to(run.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        buffer = ReplayBuffer(app.batch_size, seed, run.device)
        rounds = self._rounds(buffer, run)
        student = self._distil("student", buffer.draw, app.steps, run, rounds)
        noise = noise_batches(teacher.spec, app.batch_size, seed, run.device)
        control_steps = min(app.steps, NOISE_STEPS)
        control = self._distil("student of noise", noise, control_steps, run)
        metrics = distill_metrics(student, control, teacher, test)
        metrics[names.SECONDS] = run.seconds
        recipe = {"application": "distill", **{key: app[key] for key in RECIPE_KEYS}}
        recipe |= training_split(self.run_cfg)
        count, path = 0 if test is None else len(test[1]), run.path / "student.safetensors"
        card = student_card(self._student(), teacher, self.network, metrics, count, seed, recipe)
        save_classifier(path, student.student.network, card)
        notes = f"{len(buffer)} images {self._origin()}", self.missing
        figure = draw_student_images(buffer, teacher, run.figures / "taught.png", name)
        return Result(
            metrics,
            step=app.steps,
            tables={"distillation": distill_table(name, metrics, app, control_steps, notes, seed)},
            figures=[Figure(figure, "images that the student learnt from, by predicted class")],
            artifacts=[Artifact("classifier", (path, path.with_suffix(".json")))],
            lines=[f"student: {path}"],
        )

    def _rounds(self, buffer: ReplayBuffer, run: RunContext) -> GeneratorRounds | None:
        """Return what fills the buffer in rounds; saved images are added at once."""
        app = self.cfg.application
        if self.generators is None:
            buffer.add(self.images_nCHW)
            return None
        return GeneratorRounds(
            self.generators.to(run.device),
            buffer,
            self.augmentation,
            weight=app.adversarial,
            temperature=app.temperature,
            every=app.every,
            seed=self.cfg.seed,
            folder=run.directory.checkpoints,
            micro_batch=app.micro_batch,
        )

    def _origin(self) -> str:
        app = self.cfg.application
        if self.generators is None:
            return "saved by the run"
        return (
            f"made in rounds, one every {app.every} steps; "
            f"weight of the disagreement {app.adversarial:g}"
        )

    def _distil(
        self,
        label: str,
        draw: DrawBatch,
        steps: int,
        run: RunContext,
        rounds: GeneratorRounds | None = None,
    ) -> DistillationResult:
        """Train a student on the images that `draw` returns, and evaluate it on real ones."""
        app = self.cfg.application
        loggers = run.loggers if label == "student" else []
        parts = {} if rounds is None else {"adversary": rounds}
        return distil(
            self.classifier,
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
            on_step=log_progress(label, steps, loggers, names.STUDENT_LOSS),
            snapshots=run.snapshots(label.replace(" ", "_"), app.checkpoint_every, parts),
            micro_batch=app.micro_batch,
        )

    def _student(self) -> nn.Module:
        return build_student(self.network, self.classifier.spec, self.cfg.seed)
