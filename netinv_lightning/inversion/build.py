"""Build the inversion method that a config names. No data set is read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import lightning as L
from omegaconf import DictConfig
from torch import nn

from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.probing import check_sides
from netinv_lightning.config.method_schema import trains_generator
from netinv_lightning.config.plain import plain_dict
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.inversion.augmentation import Augmentation, fault_of_views
from netinv_lightning.inversion.base import Inversion
from netinv_lightning.inversion.build_objective import build_objective, choose_terms
from netinv_lightning.inversion.chosen_classes import chosen_classes
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.label_sets import LabelSets
from netinv_lightning.inversion.methods.approach import PRIORS, TargetInversion
from netinv_lightning.inversion.methods.gradient import PixelInversion
from netinv_lightning.inversion.methods.kkt import KktInversion
from netinv_lightning.inversion.micro_batches import check_parts
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.inversion.recomputation import recompute_activations
from netinv_lightning.inversion.stationarity import check_twice_differentiable

log = logging.getLogger(__name__)
T = TypeVar("T")

MODULE_KEYS = (
    "steps",
    "batch_size",
    "lr",
    "weight_decay",
    "betas",
    "warmup",
    "final_lr",
    "sampling_dropout",
    "sampling_batch_norm",
    "log_every",
    "micro_batch",
)
DESCENT_KEYS = ("steps", "lr", "parametrisation", "jitter", "init_std", "log_every")


def make_module(cfg: DictConfig, classifier: FrozenClassifier | None = None) -> InversionModule:
    """Build the generators and their training module: `method=generator`.

    Args:
        cfg: The config.
        classifier: The classifier to invert; None to load the one that the config names.

    Raises:
        InputError: naming the key that is wrong.
    """
    classifier = _differentiable(cfg, classifier)
    spec = classifier.spec
    conditioning = _conditioning(cfg, classifier)
    shape = {
        "conditioning": conditioning,
        "channels": spec.channels,
        "image_size": spec.image_size,
        "groups": spec.groups,
    }
    generators = []
    for g in range(cfg.n_generators):
        L.seed_everything(cfg.seed + g, verbose=False)
        generators.append(_make("generator", Generator, **shape, **plain_dict(cfg.generator)))
    return _make(
        "application",
        InversionModule,
        generators=generators,
        conditioning=conditioning,
        classifier=classifier,
        objective=build_objective(cfg, classifier),
        perturbation=_make("perturbation", Perturbation, **cfg.perturbation),
        augmentation=build_augmentation(cfg, classifier),
        seed=cfg.seed,
        **{key: cfg.application[key] for key in MODULE_KEYS},
    )


def make_pixels(
    method: type[PixelInversion], cfg: DictConfig, classifier: FrozenClassifier | None = None
) -> PixelInversion:
    """Build a method that optimises pixels; other arguments as for `make_module`."""
    classifier = _differentiable(cfg, classifier)
    return _make(
        "method",
        method,
        conditioning=_conditioning(cfg, classifier),
        classifier=classifier,
        objective=build_objective(cfg, classifier),
        perturbation=_make("perturbation", Perturbation, **cfg.perturbation),
        augmentation=build_augmentation(cfg, classifier),
        log_every=cfg.application.log_every,
        micro_batch=cfg.application.get("micro_batch"),
        **_options(cfg),
    )


def build_augmentation(
    cfg: DictConfig, classifier: FrozenClassifier, *others: nn.Module
) -> Augmentation:
    """Return the random views that `augmentation` describes.

    Args:
        cfg: The config.
        classifier: The classifier that gets the views.
        others: Other networks that get them.

    Raises:
        InputError: if a value is out of range, the inputs cannot be changed in this way, or a
            network cannot be called with resized views.
    """
    if fault := fault_of_views(cfg.augmentation, classifier.spec.modality):
        raise InputError(fault)
    augmentation = _make("augmentation", Augmentation, **cfg.augmentation)
    for network in (classifier, *others) if augmentation.sides else ():
        ends = augmentation.sides[0], augmentation.sides[-1]
        check_sides(network, classifier.spec.channels, ends)
    return augmentation


def make_kkt(cfg: DictConfig, classifier: FrozenClassifier | None = None) -> KktInversion:
    """Build `method=kkt`; arguments as for `make_module`."""
    classifier = _differentiable(cfg, classifier)
    if classifier.multi_label:
        raise InputError(
            "method=kkt: needs one label per image, but this network is multi-label; choose "
            "method=generator"
        )
    check_twice_differentiable(classifier, "method=kkt")
    kkt = _make(
        "method",
        KktInversion,
        conditioning=_conditioning(cfg, classifier),
        classifier=classifier,
        seed=cfg.seed,
        log_every=cfg.application.log_every,
        micro_batch=cfg.application.get("micro_batch"),
        **_options(cfg),
    )
    if classifier.batch_norms:
        log.warning(
            "method=kkt: the network has BatchNorm, for which the theory does not hold; its "
            "running statistics are used. To train a network without BatchNorm, set "
            "+classifier.network.batch_norm=false"
        )
    return kkt


METHODS: dict[str, Callable[[DictConfig, FrozenClassifier | None], Inversion]] = {
    "generator": make_module,
    "gradient": partial(make_pixels, PixelInversion),
    "kkt": make_kkt,
}
"""The builder of each method, by the name that `method` selects."""


def build_inversion(cfg: DictConfig, classifier: FrozenClassifier | None = None) -> Inversion:
    """Build the inversion that `cfg.method` names; the classifier is loaded unless it is given.

    Raises:
        InputError: naming the key that is wrong.
    """
    return METHODS[cfg.method.name](cfg, classifier)


def build_target_inversion(cfg: DictConfig, classifier: FrozenClassifier) -> TargetInversion:
    """Build the descent of `application=approach`, with those terms of `loss` that are priors.

    Raises:
        InputError: naming the key that is wrong.
    """
    classifier = _differentiable(cfg, classifier)
    choose_terms(cfg, classifier)
    priors = {
        name: dict(options)
        for name, options in cfg.loss.items()
        if name in PRIORS or "_target_" in options
    }
    return _make(
        "application",
        TargetInversion,
        classifier=classifier,
        priors=priors,
        augmentation=build_augmentation(cfg, classifier),
        **_limited({key: cfg.application[key] for key in DESCENT_KEYS}, cfg),
    )


def check_processes(cfg: DictConfig, processes: int) -> None:
    """Check that several processes can share the method and its batches.

    Args:
        cfg: The config.
        processes: How many processes would train.

    Raises:
        InputError: naming the key.
    """
    if (batch_size := cfg.application.batch_size) % processes:
        raise InputError(
            f"application.batch_size={batch_size}: must be a multiple of the {processes} "
            "processes, which share it"
        )
    if processes > 1 and not trains_generator(cfg):
        raise InputError(
            f"trainer.devices={cfg.trainer.devices}: method={cfg.method.name} runs in one "
            "process only. Set trainer=default"
        )


def _differentiable(cfg: DictConfig, classifier: FrozenClassifier | None) -> FrozenClassifier:
    """Return the classifier, or load it, and check that gradients reach the pixels."""
    classifier = classifier or load_classifier(cfg)
    if classifier.trained:  # untrained weights may be zero
        classifier.check_gradient()
    if (micro_batch := cfg.application.get("micro_batch")) is not None:
        check_parts(classifier, micro_batch)
    if cfg.application.get("recompute"):
        recompute_activations(classifier)
    return classifier


def _conditioning(cfg: DictConfig, classifier: FrozenClassifier) -> Conditioning:
    spec = classifier.spec
    return _make(
        "conditioning",
        LabelSets if classifier.multi_label else Conditioning,
        num_classes=spec.num_classes,
        image_size=spec.image_size,
        classes=chosen_classes(
            cfg.application.get("classes"), spec.num_classes, classifier.multi_label
        ),
        **cfg.conditioning,
    )


def _options(cfg: DictConfig) -> dict[str, Any]:
    """Return the keys of a method without a generator."""
    options = {key: value for key, value in plain_dict(cfg.method).items() if key != "name"}
    return _limited(options, cfg)


def _limited(options: dict[str, Any], cfg: DictConfig) -> dict[str, Any]:
    """Return the options with at most `trainer.max_steps` steps."""
    if (most := cfg.trainer.get("max_steps") or 0) > 0:
        options["steps"] = min(options["steps"], most)
    return options


def _make(group: str, make: Callable[..., T], **arguments: Any) -> T:
    """Call a constructor; its error then also names the config group."""
    try:
        return make(**arguments)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{group}.{one_line(error)}") from error
