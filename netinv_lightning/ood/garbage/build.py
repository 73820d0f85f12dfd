"""Builders: from a config to the training of a classifier with a garbage class."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from omegaconf import DictConfig, OmegaConf
from torch import nn

from netinv_lightning.classifiers.architecture import reading_keys
from netinv_lightning.classifiers.build import described_network
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.training import MODULE_KEYS
from netinv_lightning.config.compose import compose
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.outlier_names import check_outliers
from netinv_lightning.data.specs import same_data
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.inversion.build import make_module
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.inversion.temperature import default_temperature
from netinv_lightning.ood.garbage.extended_network import extended_network, with_garbage_class
from netinv_lightning.ood.garbage.garbage_sources import (
    GarbageSource,
    InversionSource,
    NoiseSource,
    RealOutlierSource,
)
from netinv_lightning.ood.garbage.garbage_training import GarbageTraining
from netinv_lightning.training.trainer import make_trainer

SOURCES = ("inverted", "noise", "outliers")
"""Values of `garbage.<name>.source`."""


def build_garbage_training(
    name: str, cfg: DictConfig, classifier: FrozenClassifier, data: ImageDataModule
) -> GarbageTraining:
    """Build the training that `cfg.garbage.<name>` describes.

    Args:
        name: Name of the garbage classifier.
        cfg: The config.
        classifier: The plain classifier.
        data: Its data.

    Raises:
        InputError: naming the key that is wrong.
    """
    options = cfg.garbage[name]
    _check_exposed(name, cfg)
    L.seed_everything(cfg.seed, verbose=False)
    description, network = extended_network(described_network(cfg), classifier.spec)
    # Raises an InputError unless the network has one class more.
    frozen = FrozenClassifier(
        network,
        with_garbage_class(classifier.spec),
        output=cfg.classifier.output,
        output_kind=cfg.classifier.output_kind,
    )
    network.train().requires_grad_(True)
    inverts_garbage = options.source == "inverted" and options.invert_garbage
    per_epoch = options.per_class * (classifier.spec.num_classes + inverts_garbage)
    recipe: dict[str, Any] = {key: cfg.recipe[key] for key in MODULE_KEYS}
    recipe |= {key: options[key] for key in ("lr", "label_smoothing") if options[key] is not None}
    epochs = cfg.recipe.epochs if options.epochs is None else options.epochs
    return GarbageTraining(
        name=name,
        classifier=classifier,
        data=data,
        network=network,
        frozen=frozen,
        source=_build_source(name, cfg, classifier, frozen, data, per_epoch),
        per_epoch=per_epoch,
        per_class=options.per_class,
        initial=options.initial,
        epochs=epochs,
        start_trained=options.start == "trained",
        options={
            "teacher_share": options.distil,
            "balance": options.balanced,
            "garbage_weight": options.weight,
            "keep_batch_norm": options.batch_norm == "kept",
            "zoom": options.zoom,
            "images": options.images,
        },
        recipe=recipe,
        channels_last=cfg.recipe.channels_last,
        make_trainer=partial(make_trainer, cfg),
        card={
            "name": name,
            "data": frozen.spec.as_dict(),
            "network": description,
            "garbage": OmegaConf.to_container(options),
            "recipe": {**recipe, "epochs": epochs, "batch_size": data.batch_size},
            "seed": cfg.seed,
        },
        seed=cfg.seed,
    )


def _build_source(
    name: str,
    cfg: DictConfig,
    classifier: FrozenClassifier,
    extended: FrozenClassifier,
    data: ImageDataModule,
    per_epoch: int,
) -> GarbageSource:
    options, spec = cfg.garbage[name], classifier.spec
    if options.source == "noise":
        return NoiseSource(spec, per_epoch, cfg.seed)
    if options.source == "outliers":
        return RealOutlierSource(
            options.exposed, spec, per_epoch, cfg.seed, data, Path(cfg.data.root)
        )
    try:
        return _build_inversion_source(name, cfg, extended)
    except InputError as error:
        raise InputError(
            f"garbage.{name}.inversion={list(options.inversion)}: {one_line(error)}"
        ) from error


def _build_inversion_source(
    name: str, cfg: DictConfig, extended: FrozenClassifier
) -> InversionSource:
    """Build the source; build the inversion once to check its config."""
    options, spec = cfg.garbage[name], extended.spec
    inversion = compose(options.inversion)
    for key, required, problem in (
        ("application", "invert", "is not an inversion"),
        ("method", "generator", "trains no generator"),
    ):
        if inversion[key].name != required:
            raise InputError(f"{key}={inversion[key].name}: {problem}; remove it")
    inversion.trainer = {
        key: value for key, value in cfg.trainer.items() if key not in ("max_epochs", "max_steps")
    }

    if inversion.conditioning.temperature is None:  # the default for the in-distribution classes
        inversion.conditioning.temperature = default_temperature(spec.num_classes - 1)

    def make_inversion(network: nn.Module, seed: int) -> InversionModule:
        """Make an inversion of a frozen copy of the network, which itself stays trainable."""
        seeded = inversion.copy()
        seeded.seed = seed
        frozen = FrozenClassifier(copy.deepcopy(network), spec, **reading_keys(seeded.classifier))
        return make_module(seeded, frozen)

    make_inversion(extended.network, inversion.seed)
    return InversionSource(
        name,
        make_inversion,
        partial(make_trainer, inversion),
        per_class=options.per_class,
        classes=spec.num_classes - (not options.invert_garbage),
        steps=options.steps,
        warm_steps=options.warm_steps if options.generator == "warm" else None,
        seed=cfg.seed,
    )


def _check_exposed(name: str, cfg: DictConfig) -> None:
    """Check the data sets of `source=outliers`."""
    key, options = f"garbage.{name}.exposed", cfg.garbage[name]
    if (options.source == "outliers") != bool(options.exposed):
        raise InputError(
            f"{key}={list(options.exposed)}: must name the data sets to train on if "
            f"garbage.{name}.source=outliers, and must be empty for other sources"
        )
    for exposed in options.exposed:
        check_outliers(exposed, cfg.data.name, cfg.data.classes, train=True, key=key)
        if same := [other for other in cfg.application.outliers if same_data(exposed, other)]:
            raise InputError(
                f"{key}={exposed}: is the same data as {same[0]} in application.outliers. "
                "A detector must not be evaluated on its training data; name another data set"
            )
