"""Check that the required keys of an application are set, and that none exclude each other.

These checks need neither files nor torch. They run before a run, not when a config is composed,
because `application=NAME` alone is a valid config.
"""

from __future__ import annotations

from collections.abc import Callable

from omegaconf import DictConfig

from netinv_lightning.config.black_box_keys import check_black_box_named
from netinv_lightning.config.detection_schema import DETECTORS
from netinv_lightning.config.loss_check import check_layers
from netinv_lightning.config.method_registry import METHODS
from netinv_lightning.config.validate import check_network_chosen
from netinv_lightning.data.outlier_names import called, check_outliers, is_own
from netinv_lightning.errors import InputError
from netinv_lightning.metric_names import OWN, PLAIN, RESERVED

TARGET_KEYS = {
    "soft": ("vector",),
    "logits": ("vector",),
    "neuron": ("units", "value", "file"),
    "features": ("file",),
}
"""The keys of each kind of target of `application=approach`; the first one is required."""


def check_keys(cfg: DictConfig) -> None:
    """Refuse missing keys, and keys that exclude each other.

    Raises:
        InputError: naming the key.
    """
    check_black_box_named(cfg)
    if (check := CHECKS.get(cfg.application.name)) is not None:
        check(cfg)
    _check_layers(cfg)
    if METHODS[cfg.method.name].data:
        _check_auxiliary(cfg)
    if cfg.application.get("recompute"):
        _check_recompute(cfg)


def _check_auxiliary(cfg: DictConfig) -> None:
    """Check the name of the auxiliary images of a method that needs data."""
    if (name := cfg.method.auxiliary) is None:
        raise InputError(
            f"method.auxiliary: is missing; method={cfg.method.name} learns from images other than "
            "the classifier's data, such as method.auxiliary=emnist_letters or your own "
            "method.auxiliary=FILE.npz"
        )
    check_outliers(name, cfg.data.name, cfg.data.classes, train=True, key="method.auxiliary")


def _check_recompute(cfg: DictConfig) -> None:
    """Refuse what differentiates the classifier within `torch.func`, or compiles it."""
    clashes = {
        f"method={cfg.method.name}": METHODS[cfg.method.name].second_order,
        "loss.gradient": "gradient" in cfg.loss,
        "loss.stationarity": "stationarity" in cfg.loss,
        "application.compile=true": cfg.application.compile,
    }
    for clash in (name for name, applies in clashes.items() if applies):
        raise InputError(
            f"application.recompute=true: cannot be combined with {clash}. Set "
            "application.micro_batch instead"
        )


def _check_layers(cfg: DictConfig) -> None:
    """Refuse a loss term with a layer whose features are not recorded."""
    recorded = list(cfg.classifier.feature_layers)
    if (layer := cfg.application.get("layer")) is not None:
        recorded.append(layer)
    for term, options in cfg.loss.items():
        check_layers(str(term), options.get("layers"), recorded)


def _check_measure(cfg: DictConfig) -> None:
    if bool(cfg.application.run) == bool(cfg.application.samples):
        raise InputError(
            "application.run: give either the directory of a finished inversion, or "
            "application.samples=FILE.safetensors"
        )


def _check_approach(cfg: DictConfig) -> None:
    app = cfg.application
    if cfg.n_generators > 1:
        raise InputError(
            f"n_generators={cfg.n_generators}: application=approach has no generator. For more "
            "images set application.images"
        )
    required, *_ = allowed = TARGET_KEYS[app.target]
    if not app[required]:
        raise InputError(
            f"application.{required}: is missing; application.target={app.target} requires it"
        )
    for key in sorted({key for keys in TARGET_KEYS.values() for key in keys} - set(allowed)):
        if app[key] is not None:
            kinds = ", ".join(kind for kind, keys in TARGET_KEYS.items() if key in keys)
            raise InputError(
                f"application.{key}: is a key of application.target={kinds}, not {app.target}. "
                "Leave it out"
            )


def _check_detect_ood(cfg: DictConfig) -> None:
    """Check that each outlier set is known, and that its name in the results is unique."""
    outliers = cfg.application.outliers
    for name in cfg.garbage:
        if name in (*DETECTORS, PLAIN):
            raise InputError(f"garbage.{name}: is the name of a detector. Choose another name")
    if len(set(map(called, outliers))) < len(outliers):
        raise InputError(
            f"application.outliers={list(outliers)}: two sets have the same name in the results. "
            "Rename one"
        )
    for name in outliers:
        check_outliers(name, cfg.data.name, cfg.data.classes)
        if is_own(name) and called(name) in (cfg.data.name, OWN, *RESERVED):
            raise InputError(
                f"application.outliers={name}: would have the name {called(name)} in the "
                "results, which is already in use. Rename the file"
            )


def _check_train_classifier(cfg: DictConfig) -> None:
    if cfg.application.verifier_of is None:  # the network of a verifier has a default
        check_network_chosen(cfg)


CHECKS: dict[str, Callable[[DictConfig], None]] = {
    "train_classifier": _check_train_classifier,
    "measure": _check_measure,
    "approach": _check_approach,
    "detect_ood": _check_detect_ood,
}
"""The check of an application, by its name. Most applications need none."""
