"""Build the feature study that a config describes."""

from __future__ import annotations

from omegaconf import DictConfig

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.plain import plain_dict
from netinv_lightning.config.schema import InterpretConfig
from netinv_lightning.evaluation.real_data import open_real
from netinv_lightning.interpretability.study import FeatureStudy


def build_study(cfg: DictConfig, classifier: FrozenClassifier, max_samples: int) -> FeatureStudy:
    """Build the study of an inversion, and open its real data.

    Args:
        cfg: Config of the inversion; `interpret`, `data`, `seed` and `name` are used.
        classifier: The inverted classifier.
        max_samples: Number of images that the inversion evaluates; default of
            `interpret.samples`.

    Raises:
        InputError: if an option is invalid, or the data have another shape.
    """
    study = FeatureStudy(
        name=cfg.name,
        options=InterpretConfig(**plain_dict(cfg.interpret)),
        classifier=classifier,
        max_samples=max_samples,
        seed=cfg.seed,
    )
    study.add_real(*open_real(cfg.data, classifier))
    return study
