"""Builder: the config with the data that a classifier was trained on."""

from __future__ import annotations

from omegaconf import DictConfig

from netinv_lightning.classifiers.build import SPLIT_KEYS, training_split
from netinv_lightning.errors import InputError


def with_training_split(cfg: DictConfig) -> DictConfig:
    """Return the config whose `data` keys are those of the training of the classifier.

    They come from the model card or from `application.trained_on`.

    Raises:
        InputError: if neither or both are given, or a key of the command line contradicts the card.
    """
    cfg, split, trained_on = cfg.copy(), training_split(cfg), cfg.application.trained_on
    has_split = bool(split) or cfg.classifier.train
    if has_split and trained_on is not None:
        raise InputError(
            f"application.trained_on={trained_on}: the training data of the classifier are known; "
            "remove application.trained_on"
        )
    if not has_split and trained_on is None:
        raise InputError(
            "application.trained_on: is required, because the classifier has no model card with "
            f"its training images. Set all (every training image of data={cfg.data.name}) or split "
            "(the part chosen by data.val_fraction, data.subset_size and data.split_seed). For "
            "other images: application.trained_on=all data=npz data.path=TRAINED_ON.npz "
            "data.test_path=OTHERS.npz"
        )
    if trained_on == "all":
        cfg.data.val_fraction, cfg.data.subset_size = 0.0, None
    defaults = {"val_fraction": 0.1, "subset_size": None, "split_seed": 0, "classes": None}
    for key in SPLIT_KEYS:
        if key not in split:
            continue
        if cfg.data[key] not in (split[key], defaults[key]):
            raise InputError(
                f"data.{key}={cfg.data[key]}: the classifier was trained with "
                f"data.{key}={split[key]}, as its model card states; remove data.{key}"
            )
        cfg.data[key] = split[key]
    return cfg
