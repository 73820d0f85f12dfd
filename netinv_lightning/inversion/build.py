"""From the config to what inverts a classifier: generators, pixels or candidates for training images, each by its `method`.

No data set is touched here (A1-16).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import lightning as L
from omegaconf import DictConfig, OmegaConf

from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.base import Inverter
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.methods.gradient import PixelInversion
from netinv_lightning.inversion.methods.kkt import KktInversion
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.inversion.stationarity import check_twice_differentiable

log = logging.getLogger(__name__)

T = TypeVar("T")

MODULE_KEYS = (
    "batch_size",
    "lr",
    "weight_decay",
    "betas",
    "warmup",
    "final_lr",
    "sampling_dropout",
    "sampling_batch_norm",
    "log_every",
)


def make_module(cfg: DictConfig, classifier: FrozenClassifier | None = None) -> InversionModule:
    """Everything that inversion needs, made from the config.

    Args:
        cfg: The config.
        classifier: What to invert; None to load what the config names.

    Raises:
        InputError: naming the key that is wrong.
    """
    classifier = _differentiable(cfg, classifier)
    spec = classifier.spec
    conditioning = _conditioning(cfg, classifier)
    shape = {"conditioning": conditioning, "channels": spec.channels, "image_size": spec.image_size}
    generators = []
    for g in range(cfg.n_generators):
        L.seed_everything(cfg.seed + g, verbose=False)
        generators.append(_made("generator", Generator, **shape, **_plain(cfg.generator)))
    return _made(
        "application",
        InversionModule,
        generators=generators,
        conditioning=conditioning,
        classifier=classifier,
        objective=_objective(cfg, classifier),
        perturbation=_made("perturbation", Perturbation, **cfg.perturbation),
        augmentation=build_augmentation(cfg),
        seed=cfg.seed,
        **{key: cfg.application[key] for key in MODULE_KEYS},
    )


def make_pixels(cfg: DictConfig, classifier: FrozenClassifier | None = None) -> PixelInversion:
    """The same for `method=gradient`.

    Raises:
        InputError: naming the key that is wrong.
    """
    if cfg.n_generators > 1:
        raise InputError(
            f"n_generators={cfg.n_generators}: method=gradient has no generator; for more images set application.eval_samples"
        )
    if "l1" in cfg.loss:
        raise InputError(
            "loss.l1: penalises a generator's weights, and method=gradient has none; leave it out: ~loss.l1"
        )
    classifier = _differentiable(cfg, classifier)
    return _made(
        "method",
        PixelInversion,
        conditioning=_conditioning(cfg, classifier),
        classifier=classifier,
        objective=_objective(cfg, classifier),
        perturbation=_made("perturbation", Perturbation, **cfg.perturbation),
        augmentation=build_augmentation(cfg),
        log_every=cfg.application.log_every,
        **_options(cfg),
    )


def build_augmentation(cfg: DictConfig) -> Augmentation:
    """Return the random views that `augmentation` describes.

    Raises:
        InputError: if a value is out of range.
    """
    return _made("augmentation", Augmentation, **cfg.augmentation)


def make_kkt(cfg: DictConfig, classifier: FrozenClassifier | None = None) -> KktInversion:
    """The same for `method=kkt`."""
    if cfg.n_generators > 1:
        raise InputError(
            f"n_generators={cfg.n_generators}: method=kkt has no generator; for more images set method.candidates"
        )
    if cfg.application.compile:
        raise InputError(
            "application.compile=true: a compiled network has no second derivative, which method=kkt needs; leave it out"
        )
    classifier = _differentiable(cfg, classifier)
    check_twice_differentiable(classifier, "method=kkt")
    kkt = _made(
        "method",
        KktInversion,
        conditioning=_conditioning(cfg, classifier),
        classifier=classifier,
        seed=cfg.seed,
        log_every=cfg.application.log_every,
        **_options(cfg),
    )
    if classifier.batch_norms:
        log.warning(
            "method=kkt: the network has BatchNorm, for which the theory does not hold; it is taken as in evaluation. One without is "
            "trained with +classifier.network.batch_norm=false"
        )
    return kkt


METHODS: dict[str, Callable[..., Inverter]] = {
    "generator": make_module,
    "gradient": make_pixels,
    "kkt": make_kkt,
}


def _differentiable(cfg: DictConfig, classifier: FrozenClassifier | None) -> FrozenClassifier:
    """The classifier, or else the one that `cfg` names, through which a gradient reaches the pixels."""
    classifier = classifier or load_classifier(cfg)
    if classifier.trained:  # else its weights may be zero
        classifier.check_gradient()
    return classifier


def _conditioning(cfg: DictConfig, classifier: FrozenClassifier) -> Conditioning:
    spec = classifier.spec
    return _made(
        "conditioning",
        Conditioning,
        num_classes=spec.num_classes,
        image_size=spec.image_size,
        **cfg.conditioning,
    )


def _options(cfg: DictConfig) -> dict[str, Any]:
    """The keys of a method without a generator; no more steps than the trainer allows."""
    options = {key: value for key, value in _plain(cfg.method).items() if key != "name"}
    if (most := cfg.trainer.get("max_steps") or 0) > 0:
        options["steps"] = min(options["steps"], most)
    return options


def _objective(cfg: DictConfig, classifier: FrozenClassifier) -> Objective:
    objective = Objective(_plain(cfg.loss), classifier.feature_layers)
    for term in {"gradient", "stationarity"}.intersection(cfg.loss):
        check_twice_differentiable(classifier, f"loss.{term}")
    return objective


def _plain(cfg: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _made(group: str, make: Callable[..., T], **arguments: Any) -> T:
    """Constructors check their own arguments; here their word gets the config's group in front."""
    try:
        return make(**arguments)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{group}.{one_line(error)}") from error
