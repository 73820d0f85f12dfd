"""`application=distill`: train a student network on inverted images, without data.

    netinv application=distill application.run=RUN_DIRECTORY
    netinv application=distill application.run=RUN_DIRECTORY \
        application.student._target_=netinv_lightning.classifiers.networks.ResNet

The student learns the outputs of the classifier, its teacher (Taparia, supervised research slides).
The generators of the run make new images in rounds. A run without generators provides its saved
images. The student is compared with a student that is trained on noise, and with the teacher. Real
images are used for the evaluation only.
"""

from __future__ import annotations

from functools import partial

from netinv_lightning import metric_names as names
from netinv_lightning.applications.base import Application
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.plain import plain_dict
from netinv_lightning.data.specs import require_images
from netinv_lightning.downstream.build import (
    build_distillation,
    build_rounds,
    distillation_recipe,
    open_test_data,
)
from netinv_lightning.downstream.distill_report import control_steps, distill_result
from netinv_lightning.downstream.distillation import DistillationResult, DrawBatch
from netinv_lightning.downstream.generator_rounds import GeneratorRounds
from netinv_lightning.downstream.replay_buffer import ReplayBuffer, noise_batches
from netinv_lightning.downstream.student import build_student, check_hint
from netinv_lightning.evaluation.finished_run import load_generators, open_finished
from netinv_lightning.inversion.build import build_augmentation
from netinv_lightning.inversion.build_objective import build_objective
from netinv_lightning.inversion.micro_batches import check_parts
from netinv_lightning.runs.finished_check import named_run
from netinv_lightning.tracking.result import Result
from netinv_lightning.tracking.run_context import RunContext
from netinv_lightning.training.progress import log_progress


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
        self.objective = build_objective(cfg, self.classifier)
        # A run without generators has saved its images.
        self.saved = run.draw(run.samples) if self.generators is None else None
        real, self.missing = open_test_data(run.cfg, self.classifier)
        self.test = None if real is None else real.test
        self.network = plain_dict(cfg.application.student)
        self.make_student = partial(build_student, self.network, self.classifier.spec, cfg.seed)
        student = self.make_student()
        self.augmentation = build_augmentation(cfg, self.classifier, student)
        check_hint(self.classifier, student, cfg.application.features)
        if (micro_batch := cfg.application.micro_batch) is not None:
            check_parts(self.classifier, micro_batch)
            check_parts(FrozenClassifier(student, self.classifier.spec, ()), micro_batch)
        self.distil = build_distillation(cfg, self.classifier, self.test, self.augmentation)

    def compute(self, run: RunContext) -> Result:
        cfg, app, teacher = self.cfg, self.cfg.application, run.place(self.classifier)
        buffer = ReplayBuffer(app.batch_size, cfg.seed, run.device)
        rounds = build_rounds(
            cfg,
            self.generators,
            objective=self.objective,
            buffer=buffer,
            augmentation=self.augmentation,
            run=run,
        )
        if self.saved is not None:
            buffer.add(self.saved.images_nCHW)
        student = self._distil("student", buffer.draw, app.steps, run, rounds)
        noise = noise_batches(teacher.spec, app.batch_size, cfg.seed, run.device)
        control = self._distil("student of noise", noise, control_steps(app.steps), run)
        return distill_result(
            self.run_cfg.name,
            run,
            student=student,
            control=control,
            teacher=teacher,
            test=self.test,
            buffer=buffer,
            generated=rounds is not None,
            missing=self.missing,
            network=self.network,
            recipe=distillation_recipe(cfg, self.run_cfg),
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
        every = self.cfg.application.checkpoint_every
        loggers = run.loggers if label == "student" else []
        parts = {} if rounds is None else {"adversary": rounds}
        return self.distil(
            draw=draw,
            student=self.make_student(),
            steps=steps,
            before_step=rounds,
            new_images=rounds.new_round if rounds else None,
            on_step=log_progress(label, steps, loggers, names.STUDENT_LOSS),
            snapshots=run.snapshots(label.replace(" ", "_"), every, parts),
        )
