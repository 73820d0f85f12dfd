"""What the applications of inverted images refuse alike, before anything is written."""

from __future__ import annotations

import math
from pathlib import Path

from omegaconf import DictConfig

from netinv_lightning.data.module import ImageDataModule
from netinv_lightning.data.spec import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.image_sets import open_real
from netinv_lightning.measurement import NO_TEST_IMAGES


def run_directory(cfg: DictConfig) -> Path:
    """The finished run that `application.run` names.

    Raises:
        InputError: if it names none.
    """
    if not cfg.application.run:
        raise InputError("application.run: name the finished run whose images are used: application.run=RUN_DIRECTORY")
    return Path(cfg.application.run)


def open_test(cfg: DictConfig, spec: DataSpec) -> tuple[ImageDataModule | None, str]:
    """The real data with their test images, or why those are not at hand.

    Raises:
        InputError: as `open_real`.
    """
    real, missing = open_real(cfg, spec)
    return (real, missing) if real is None or len(real.test[1]) else (None, NO_TEST_IMAGES)


def check_least(cfg: DictConfig, **least: int) -> None:
    """Refuses keys of the application that are below their least value.

    Raises:
        InputError: naming the first.
    """
    for key, lowest in least.items():
        if (value := cfg.application[key]) < lowest:
            raise InputError(f"application.{key}={value}: must be {lowest} or more")


def check_positive(cfg: DictConfig, *keys: str) -> None:
    """Refuses keys of the application that are not above 0.

    Raises:
        InputError: naming the first.
    """
    for key in keys:
        if not 0 < (value := cfg.application[key]) < math.inf:
            raise InputError(f"application.{key}={value}: must be a finite number above 0")


def check_not_negative(cfg: DictConfig, *keys: str) -> None:
    """Refuses keys of the application that are negative or not finite.

    Raises:
        InputError: naming the first.
    """
    for key in keys:
        if not 0 <= (value := cfg.application[key]) < math.inf:
            raise InputError(f"application.{key}={value}: must be a finite number, 0 or more")


def check_share(cfg: DictConfig, key: str) -> None:
    """Refuses a key of the application that is no share.

    Raises:
        InputError: naming it.
    """
    if not 0 <= (value := cfg.application[key]) <= 1:
        raise InputError(f"application.{key}={value}: must be from 0 to 1")
