"""What the applications of this folder read from a config before they begin."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.image_sets import open_real
from netinv_lightning.evaluation.measurement import NO_TEST_IMAGES


def inverted_run(cfg: DictConfig) -> Path:
    """Return the directory of the finished run whose images are used.

    Raises:
        InputError: if `application.run` is missing.
    """
    if not cfg.application.run:
        raise InputError(
            "application.run: name the finished run whose images are used: "
            "application.run=RUN_DIRECTORY"
        )
    return Path(cfg.application.run)


def open_test_data(
    cfg: DictConfig, classifier: FrozenClassifier
) -> tuple[ImageDataModule | None, str]:
    """Return the real data with test images, or None and the reason why they are missing.

    Raises:
        InputError: as `open_real`.
    """
    real, missing = open_real(cfg, classifier)
    return (real, missing) if real is None or len(real.test[1]) else (None, NO_TEST_IMAGES)
