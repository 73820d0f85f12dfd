"""Open the real data that a config names, for the applications in this folder."""

from __future__ import annotations

from omegaconf import DictConfig

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.evaluation.real_data import NO_TEST_IMAGES, open_real


def open_test_data(
    cfg: DictConfig, classifier: FrozenClassifier
) -> tuple[ImageDataModule | None, str]:
    """Return the real data with test images, or None and the reason why they are missing.

    Raises:
        InputError: as `open_real`.
    """
    real, missing = open_real(cfg.data, classifier)
    return (real, missing) if real is None or len(real.test[1]) else (None, NO_TEST_IMAGES)
