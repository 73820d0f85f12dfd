"""What the applications of inverted images refuse alike, before anything is written."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.image_sets import open_real
from netinv_lightning.evaluation.measurement import NO_TEST_IMAGES


def run_directory(cfg: DictConfig) -> Path:
    """The finished run that `application.run` names.

    Raises:
        InputError: if it names none.
    """
    if not cfg.application.run:
        raise InputError(
            "application.run: name the finished run whose images are used: application.run=RUN_DIRECTORY"
        )
    return Path(cfg.application.run)


def open_test(cfg: DictConfig, classifier: FrozenClassifier) -> tuple[ImageDataModule | None, str]:
    """The real data with their test images, or why those are not at hand.

    Raises:
        InputError: as `open_real`.
    """
    real, missing = open_real(cfg, classifier)
    return (real, missing) if real is None or len(real.test[1]) else (None, NO_TEST_IMAGES)
