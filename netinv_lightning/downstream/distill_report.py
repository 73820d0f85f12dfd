"""Metrics, table, figure and model card of `application=distill`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.checkpoints import model_card, save_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.config.downstream_schema import DistillConfig
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.downstream.classifier_predictions import agreement, predict
from netinv_lightning.downstream.distillation import DistillationResult
from netinv_lightning.downstream.downstream_figures import student_images_figure
from netinv_lightning.downstream.finetuning import LabelledImages
from netinv_lightning.downstream.replay_buffer import ReplayBuffer
from netinv_lightning.runs.tables import Cell, Table
from netinv_lightning.tracking.result import Figure, Result, classifier_artifact
from netinv_lightning.tracking.run_context import RunContext

STUDENT = (names.STUDENT_AGREEMENT_FRESH, names.STUDENT_AGREEMENT, names.STUDENT_ACCURACY)
NOISE_STUDENT = tuple(
    names.noise_student(what) for what in ("agreement_fresh", "agreement", "accuracy")
)
PICTURED = 2000
"""Approximate number of images that are considered for the figure."""
NOISE_STEPS = 300
"""Maximum training steps of the control, which converges early (experiments/inverted_data)."""


def control_steps(steps: int) -> int:
    """Return the training steps of the control, from those of the student."""
    return min(steps, NOISE_STEPS)


def distill_metrics(
    student: DistillationResult,
    control: DistillationResult,
    teacher: FrozenClassifier,
    test: LabelledImages | None,
) -> dict[str, float]:
    """Return the metrics of student, control and teacher.

    Args:
        student: The student trained on inverted images.
        control: The student trained on noise.
        teacher: The classifier.
        test: Real test images and labels; None without real data.
    """
    found: dict[str, float | None] = {
        names.STUDENT_AGREEMENT_FRESH: student.agreement_fresh,
        names.noise_student("agreement_fresh"): control.agreement_fresh,
    }
    if test is not None:
        images_nCHW, label_n = test
        found |= {
            names.STUDENT_ACCURACY: student.accuracy,
            names.STUDENT_AGREEMENT: student.agreement,
            names.noise_student("accuracy"): control.accuracy,
            names.noise_student("agreement"): control.agreement,
            names.TEACHER_ACCURACY: agreement(predict(teacher, images_nCHW), label_n),
        }
    return {name: value for name, value in found.items() if value is not None}


def distill_result(
    name: str,
    run: RunContext,
    *,
    student: DistillationResult,
    control: DistillationResult,
    teacher: FrozenClassifier,
    test: LabelledImages | None,
    buffer: ReplayBuffer,
    generated: bool,
    missing: str,
    network: Mapping[str, Any],
    recipe: Mapping[str, Any],
) -> Result:
    """Write the student and the figure of its images; return metrics and table.

    Args:
        name: Name of the run that inverted the teacher.
        run: The run.
        student: The student trained on inverted images.
        control: The student trained on noise.
        teacher: The classifier.
        test: Real test images and labels; None without real data.
        buffer: The images that the student learnt from.
        generated: Whether generators made the images; otherwise the run saved them.
        missing: Why there are no real images; empty if there are.
        network: The architecture of the student.
        recipe: How it was trained.
    """
    options, seed, origin = run.cfg.application, run.cfg.seed, "saved by the run"
    if generated:
        origin = (
            f"made in rounds, one every {options.every} steps; "
            f"weight of the disagreement {options.adversarial:g}"
        )
    images = f"{len(buffer)} images {origin}"
    metrics = distill_metrics(student, control, teacher, test) | {names.SECONDS: run.seconds}
    path = run.path / "student.safetensors"
    card = student_card(student.student, network, metrics, test, seed, recipe)
    save_classifier(path, student.student.network, card)
    figure = draw_student_images(buffer, teacher, run.figures / "taught.png", name)
    return Result(
        metrics,
        step=options.steps,
        tables={"distillation": distill_table(name, metrics, options, (images, missing), seed)},
        figures=[Figure(figure, "images that the student learnt from, by predicted class")],
        artifacts=[classifier_artifact(path)],
        lines=[f"student: {path}"],
    )


def distill_table(
    name: str,
    metrics: Mapping[str, float],
    options: DistillConfig,
    notes: tuple[str, str],
    seed: int,
) -> Table:
    """One row per network.

    Args:
        name: Name of the run.
        metrics: As returned by `distill_metrics`.
        options: The keys of the application.
        notes: A description of the student's training images, and why there are no real images.
        seed: The seed of the run.
    """
    images, missing = notes
    on_real, of_control = None if missing else 1.0, control_steps(options.steps)
    rows: list[list[Cell]] = [
        ["student trained on inverted images", options.steps, *map(metrics.get, STUDENT)],
        ["student trained on noise (control)", of_control, *map(metrics.get, NOISE_STUDENT)],
        ["teacher", None, 1.0, on_real, metrics.get(names.TEACHER_ACCURACY)],
    ]
    network = str(options.student["_target_"]).rpartition(".")[2]
    described = [
        f"student: {network}; {images}; {options.batch_size} per step; "
        f"temperature {options.temperature:g}; seed {seed}",
        "agreement (own images): with the teacher, on new images of the kind that the student was "
        "trained on",
        missing
        or "agreement, accuracy: with the teacher and with the labels, on all real test images",
    ]
    columns = ["network", "steps", "agreement (own images)", "agreement", "accuracy"]
    return Table(f"{name}: data-free distillation", columns, rows, described)


def draw_student_images(
    buffer: ReplayBuffer, teacher: FrozenClassifier, path: Path, name: str
) -> Path:
    """Plot training images of the student, grouped by the prediction of the teacher."""
    images_nCHW = buffer.images_nCHW[:: max(1, len(buffer) // PICTURED)]
    title = f"{name}: training images of the student, by the prediction of its teacher"
    predicted_n = predict(teacher, images_nCHW)
    names_of_classes = teacher.spec.class_names
    return student_images_figure(
        to_unit_range(images_nCHW), predicted_n, names_of_classes, path, f"{title}, oldest first"
    )


def student_card(
    student: Classifier,
    network: Mapping[str, Any],
    metrics: Mapping[str, float],
    test: LabelledImages | None,
    seed: int,
    recipe: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the model card of the student.

    Args:
        student: The student.
        network: Its architecture.
        metrics: As returned by `distill_metrics`.
        test: Real test images and labels; None without real data.
        seed: The seed of the run.
        recipe: How it was trained.
    """
    return model_card(
        "student",
        student.network,
        spec=student.spec,
        description={"network": dict(network)},
        training_images=0,
        test_images=0 if test is None else len(test[1]),
        test_accuracy=metrics.get(names.STUDENT_ACCURACY, math.nan),
        seed=seed,
        recipe=recipe,
    )
