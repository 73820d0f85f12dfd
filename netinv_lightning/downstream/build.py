"""What the applications of this folder read from a config."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from omegaconf import DictConfig

from netinv_lightning.classifiers.build import SPLIT_KEYS, training_split
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.downstream.distillation import DistillationResult, distil
from netinv_lightning.downstream.finetuning import LabelledImages
from netinv_lightning.downstream.generator_rounds import GeneratorRounds
from netinv_lightning.downstream.replay_buffer import ReplayBuffer
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.real_data import NO_TEST_IMAGES, open_real
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.tracking.run_context import RunContext

OF_THE_COMMAND = (
    "root",
    "batch_size",
    "val_fraction",
    "subset_size",
    "split_seed",
    "shift",
    "flip",
)
"""Keys of `data` that the command sets; the run determines the data set."""
DISTILLATION_KEYS = (
    "run",
    "steps",
    "batch_size",
    "lr",
    "temperature",
    "features",
    "adversarial",
    "every",
)
FINETUNING_KEYS = ("run", "kind", "share", "images", "steps", "lr", "radius", "attack_steps")


def open_test_data(
    cfg: DictConfig, classifier: FrozenClassifier
) -> tuple[ImageDataModule | None, str]:
    """Return the real data with test images, or None and the reason why they are missing.

    Raises:
        InputError: as `open_real`.
    """
    real, missing = open_real(cfg.data, classifier)
    return (real, missing) if real is None or len(real.test[1]) else (None, NO_TEST_IMAGES)


def require_test_data(cfg: DictConfig, classifier: FrozenClassifier) -> ImageDataModule:
    """Return the real data with training and test images for a fine-tuning.

    Raises:
        InputError: as `open_real`, or if they are missing.
    """
    real, missing = open_test_data(cfg, classifier)
    if real is None:
        raise InputError(
            f"data.root={cfg.data.root}: fine-tuning needs real training and test images; {missing}"
        )
    return real


def with_data_keys(run_cfg: DictConfig, cfg: DictConfig) -> DictConfig:
    """Return the config of a run with those keys of `data` that a command sets."""
    run_cfg = run_cfg.copy()
    for key in OF_THE_COMMAND:
        run_cfg.data[key] = cfg.data[key]
    return run_cfg


def build_rounds(
    cfg: DictConfig,
    generators: InversionModule | None,
    objective: Objective,
    buffer: ReplayBuffer,
    augmentation: Augmentation,
    run: RunContext,
) -> GeneratorRounds | None:
    """Build the rounds in which generators make the images of a student.

    Args:
        cfg: The config of `application=distill`.
        generators: The inversion with trained generators; without it, there are no rounds.
        objective: The terms of the images.
        buffer: Receives the images.
        augmentation: Random views of the images for teacher and student.
        run: The run, in whose directory the images of the buffer are saved.
    """
    if generators is None:
        return None
    app = cfg.application
    return GeneratorRounds(
        generators.to(run.device),
        objective,
        buffer,
        augmentation,
        weight=app.adversarial,
        temperature=app.temperature,
        every=app.every,
        seed=cfg.seed,
        folder=run.directory.checkpoints,
        micro_batch=app.micro_batch,
    )


def build_distillation(
    cfg: DictConfig,
    teacher: FrozenClassifier,
    test: LabelledImages | None,
    augmentation: Augmentation,
) -> Callable[..., DistillationResult]:
    """Return `distil` with the arguments that the student and its control have in common.

    Args:
        cfg: The config of `application=distill`.
        teacher: The classifier.
        test: Real test images and labels; None without real data.
        augmentation: Random views of the images for teacher and student.
    """
    app = cfg.application
    return partial(
        distil,
        teacher,
        real=test,
        lr=app.lr,
        temperature=app.temperature,
        features=app.features,
        augmentation=augmentation,
        mix=True,
        seed=cfg.seed,
        micro_batch=app.micro_batch,
    )


def finetuning_recipe(cfg: DictConfig, run_cfg: DictConfig) -> dict[str, Any]:
    """Return how `application=finetune` trains a classifier, for its model card.

    Args:
        cfg: The config of the command.
        run_cfg: The config of the run that inverted the classifier, with the data of the command.
    """
    inverted, data = run_cfg.classifier.zoo or run_cfg.classifier.path, run_cfg.data
    recipe = {"application": "finetune", "from": str(inverted), "trained_before": True}
    recipe |= {key: cfg.application[key] for key in FINETUNING_KEYS}
    return recipe | {
        key: data[key] for key in SPLIT_KEYS if key != "classes" or data[key] is not None
    }


def distillation_recipe(cfg: DictConfig, run_cfg: DictConfig) -> dict[str, Any]:
    """Return how `application=distill` trains a student, for its model card.

    Args:
        cfg: The config of the command.
        run_cfg: The config of the run that inverted the teacher.
    """
    app = cfg.application
    recipe = {"application": "distill", **{key: app[key] for key in DISTILLATION_KEYS}}
    return recipe | training_split(run_cfg)
