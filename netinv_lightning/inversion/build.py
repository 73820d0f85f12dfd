"""Build the inversion method that a config names. No data set is read."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
from omegaconf import DictConfig
from torch import Tensor, nn

from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.probing import check_sides
from netinv_lightning.config.method_registry import ACCESS, METHODS, methods_with
from netinv_lightning.config.method_schema import trains_generator
from netinv_lightning.config.plain import plain_dict
from netinv_lightning.data.pixels import to_uint8
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.inversion.augmentation import Augmentation, fault_of_views
from netinv_lightning.inversion.base import Inversion
from netinv_lightning.inversion.build_objective import build_objective, choose_terms
from netinv_lightning.inversion.chosen_classes import chosen_classes
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.label_sets import LabelSets
from netinv_lightning.inversion.methods.approach import PRIORS, TargetInversion
from netinv_lightning.inversion.micro_batches import check_parts
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.inversion.recomputation import recompute_activations

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
    "sampling_views",
    "round_steps",
    "log_every",
    "micro_batch",
)
MOST_AUXILIARY = 20_000
"""Largest number of auxiliary images of a method that needs data."""
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


def make_method(cfg: DictConfig, classifier: FrozenClassifier | None, draws: bool) -> Inversion:
    """Build a method without generators from the parts that its constructor asks for.

    Args:
        cfg: The config.
        classifier: The classifier to invert; None to load the one that the config names.
        draws: Whether it only draws from what an earlier run has stored, without auxiliary images.

    Raises:
        InputError: naming the key that is wrong.
    """
    method = METHODS[cfg.method.name]
    classifier = _prepared(cfg, classifier)
    check_access(cfg.method.name, classifier)
    make = getattr(import_module(method.target.rpartition(".")[0]), method.target.split(".")[-1])
    parts: dict[str, Callable[[], Any]] = {
        "classifier": lambda: classifier.limited_to(method.access),
        "conditioning": lambda: _conditioning(cfg, classifier),
        "objective": lambda: build_objective(cfg, classifier),
        "perturbation": lambda: _make("perturbation", Perturbation, **cfg.perturbation),
        "augmentation": lambda: build_augmentation(cfg, classifier),
        "seed": lambda: cfg.seed,
        "log_every": lambda: cfg.application.log_every,
        "micro_batch": lambda: cfg.application.get("micro_batch"),
        "auxiliary": lambda: _auxiliary(cfg, classifier, draws),
        "training_split": lambda: lambda: _training_split(cfg, classifier),
    }
    wanted = inspect.signature(make).parameters.values()
    given = {part.name: parts[part.name]() for part in wanted if part.kind != part.KEYWORD_ONLY}
    return _make("method", make, **given, **_options(cfg))


def check_access(name: str, classifier: FrozenClassifier) -> None:
    """Check that the classifier grants the access that a method needs.

    Raises:
        InputError: naming the method, and those that need less.
    """
    needed = METHODS[name].least_access or METHODS[name].access
    # A black box with scores has an estimated gradient.
    has = "gradients" if classifier.access == "scores" else classifier.access
    if classifier.access != "weights" and ACCESS.index(needed) < ACCESS.index(has):
        others = " or ".join(f"method={other}" for other in methods_with(has))
        raise InputError(
            f"method={name}: needs the {needed} of the classifier, but this black box gives "
            f"{classifier.access} only. Choose {others}"
        )
    if needed == "gradients" and classifier.trained:  # untrained weights may be zero
        classifier.check_gradient()


def _auxiliary(cfg: DictConfig, classifier: FrozenClassifier, draws: bool) -> Callable[[], Tensor]:
    """Return a function that returns the auxiliary images, uint8 [n, C, H, W].

    They are read now, so that missing images are refused before anything is written.
    """
    if draws:
        return _no_auxiliary
    from netinv_lightning.data.outliers import outliers  # torchvision, which few methods need

    images_nCHW = outliers(
        cfg.method.auxiliary,
        classifier.spec,
        MOST_AUXILIARY,
        cfg.seed,
        Path(cfg.data.root),
        train=True,
        key="method.auxiliary",
    )
    return lambda: to_uint8(images_nCHW)


def _training_split(cfg: DictConfig, classifier: FrozenClassifier) -> tuple[Tensor, Tensor]:
    """Return the training images of `data`, uint8 [n, C, H, W], and their labels."""
    from netinv_lightning.data.datamodule import ImageDataModule  # torchvision, as above

    data, spec = ImageDataModule(**cfg.data), classifier.spec
    if (data.spec.shape, data.spec.num_classes) != (spec.shape, spec.num_classes):
        raise InputError(
            f"data={cfg.data.name}: method.self_test needs images of the classifier's data, "
            f"{spec.name}. Set data={spec.name}"
        )
    return data.train


def _no_auxiliary() -> Tensor:
    raise RuntimeError("auxiliary images are not read for a method that is trained already")


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


def build_inversion(
    cfg: DictConfig, classifier: FrozenClassifier | None = None, draws: bool = False
) -> Inversion:
    """Build the inversion that `cfg.method` names.

    Args:
        cfg: The config.
        classifier: The classifier to invert; None to load the one that the config names.
        draws: Whether it only draws from what an earlier run has stored.

    Raises:
        InputError: naming the key that is wrong.
    """
    if trains_generator(cfg):
        return make_module(cfg, classifier)
    return make_method(cfg, classifier, draws)


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
    if processes > 1 and cfg.application.get("round_steps") is not None:
        raise InputError(
            f"application.round_steps={cfg.application.round_steps}: is for one process, but "
            f"{processes} would train. Set trainer=default, or leave it out"
        )
    if processes > 1 and not trains_generator(cfg):
        raise InputError(
            f"trainer.devices={cfg.trainer.devices}: method={cfg.method.name} runs in one "
            "process only. Set trainer=default. To use several devices, run one job on each: "
            "netinv -m ... seed=0,1 trainer.devices=one_per_job hydra/launcher=joblib"
        )


def _differentiable(cfg: DictConfig, classifier: FrozenClassifier | None) -> FrozenClassifier:
    """Return the classifier, or load it, and check that gradients reach the pixels."""
    classifier = _prepared(cfg, classifier)
    if classifier.trained:  # untrained weights may be zero
        classifier.check_gradient()
    return classifier


def _prepared(cfg: DictConfig, classifier: FrozenClassifier | None) -> FrozenClassifier:
    """Return the classifier, or load it, with the memory options of the application."""
    classifier = classifier or load_classifier(cfg)
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
    given = plain_dict(cfg.method)
    options = {key: given[key] for key in given if key not in ("name", "auxiliary")}
    return _limited(options, cfg)


def _limited(options: dict[str, Any], cfg: DictConfig) -> dict[str, Any]:
    """Return the options with at most `trainer.max_steps` steps."""
    if (most := cfg.trainer.get("max_steps") or 0) > 0 and "steps" in options:
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
