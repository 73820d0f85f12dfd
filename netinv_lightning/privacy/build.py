"""Builders: the attacks of an audit, and the data that a classifier was trained on."""

from __future__ import annotations

from dataclasses import fields

import torch
from omegaconf import DictConfig

from netinv_lightning.classifiers.architecture import build_network
from netinv_lightning.classifiers.build import (
    SPLIT_KEYS,
    card_network,
    named_card,
    training_split,
)
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.config.compose import compose
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError
from netinv_lightning.privacy.real_images import RealImages, check_comparable, real_images
from netinv_lightning.privacy.shadow_attack import ShadowPlan
from netinv_lightning.privacy.stacked_training import StackRecipe
from netinv_lightning.training.seeds import own_randomness

ATTACKS = {
    "reconstruction": ["conditioning.vectors=hot"],  # all nine terms of the objective
    "natural": ["loss=natural", "conditioning.vectors=hot"],  # a prior for natural images
    "kkt": ["method=kkt"],  # the stationarity conditions of the weights
    "inversion": ["loss=inversion"],  # plain inversion, for comparison
}
"""The config overrides of each attack."""
FEWER = "application.eval_samples=2000"  # enough to measure transfer with an error of one per cent
EFFORTS: dict[str, dict[str, list[str]]] = {
    "quick": {
        "reconstruction": ["application.steps=150", FEWER],
        "natural": ["application.steps=300", FEWER],
        "kkt": ["method.steps=500"],
        "inversion": ["application.steps=300", FEWER],
    },
    "full": {},
}
"""The overrides of each effort. `quick` takes minutes on two cores; `full` keeps the defaults."""
CANDIDATES = {"quick": 750, "full": 3000}
"""Maximum number of candidates of `kkt`, which uses three for every two training images."""
TAKEN = ("data", "classifier", "recipe", "trainer", "logger", "seed", "generator")
"""The parts of the config that an attack takes from the audit."""


def attack_config(cfg: DictConfig, name: str, training_images: int) -> DictConfig:
    """Return the config of an attack.

    Args:
        cfg: The config of the audit.
        name: One of `ATTACKS`.
        training_images: Number of training images of the classifier.

    Raises:
        InputError: if `application.overrides` do not fit the attack.
    """
    app, overrides = cfg.application, [*ATTACKS[name]]
    if name == "kkt":
        candidates = min(CANDIDATES[app.effort], training_images * 3 // 2)
        overrides.append(f"method.candidates={candidates}")
    # The risk of each image is computed from the stored reconstructions.
    overrides.append(f"application.keep_samples={app.reconstructions}")
    overrides += [*EFFORTS[app.effort].get(name, []), *app.overrides]
    # No student: it is slow to train and provides no evidence about single images.
    attack = compose(["application=reconstruct", "application.student=false", *overrides])
    for key in TAKEN:
        attack[key] = cfg[key]
    attack.name = name
    for key in ("reconstructions", "members", "verifiers", "trained_on"):
        attack.application[key] = app[key]
    return attack


def build_shadow_plan(cfg: DictConfig, classifier: FrozenClassifier) -> ShadowPlan | None:
    """Return how shadow networks are trained; None if the config asks for none.

    Raises:
        InputError: if their number is odd, or the classifier has no model card with its network and
            its recipe.
    """
    shadows: int | None = cfg.application.shadow
    if shadows is None:
        return None
    if shadows % 2:
        raise InputError(
            f"application.shadow={shadows}: must be even. Shadow networks are trained in pairs, on "
            f"the two halves of the images. Set {shadows + 1}"
        )
    card, recipe = named_card(cfg), dict(named_card(cfg).get("recipe", {}))
    keys = [field.name for field in fields(StackRecipe)]
    if "network" not in card or not set(keys) <= set(recipe):
        raise InputError(
            f"application.shadow={shadows}: shadow networks need the network and the recipe of the "
            "training, which only the model card of a classifier that "
            "application=train_classifier trained contains. Remove application.shadow"
        )
    if "trained_before" in recipe:
        raise InputError(
            f"application.shadow={shadows}: the classifier was fine-tuned, so its card has no "
            "recipe of its whole training. Remove application.shadow"
        )
    network = card_network(card, f"application.shadow={shadows}")

    def make() -> list[Classifier]:
        with own_randomness(cfg.seed, torch.device("cpu")):
            return [
                Classifier(build_network(network, classifier.spec), classifier.spec, classifier)
                for _ in range(shadows)
            ]

    return ShadowPlan(make, StackRecipe(**{key: recipe[key] for key in keys}))


def build_real_images(cfg: DictConfig, data: ImageDataModule) -> RealImages:
    """Select members and non-members of the classifier that the config names.

    Args:
        cfg: The config of an attack or an audit.
        data: The data that the classifier was trained on.

    Raises:
        InputError: as `check_comparable` and `real_images`.
    """
    check_comparable(named_card(cfg).get("training_images"), data)
    trained_before = "trained_before" in training_split(cfg)
    return real_images(data, cfg.seed, cfg.application.members, trained_before)


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
