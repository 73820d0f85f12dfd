"""Check the keys that a method of inversion cannot use, and that its extra is installed.

This module does not import torch.
"""

from __future__ import annotations

from importlib.util import find_spec

from omegaconf import DictConfig

from netinv_lightning.config.application_schema import INVERSIONS
from netinv_lightning.config.method_registry import METHODS, Method
from netinv_lightning.errors import InputError


def check_method(cfg: DictConfig) -> None:
    """Refuse keys that the method cannot use, and a method whose extra is not installed.

    Raises:
        InputError: naming the key.
    """
    method = METHODS[cfg.method.name]
    if cfg.application.name not in INVERSIONS or method.trains_generator:
        return
    _check_keys_of_generators(cfg, method)
    name, app = cfg.method.name, cfg.application
    if missing := [module for module in method.modules if find_spec(module) is None]:
        raise InputError(
            f"method={name}: needs {', '.join(missing)}, which is not installed; install the "
            f"extra: pip install 'netinv_lightning[{method.extra}]'"
        )
    if method.second_order and app.compile:
        raise InputError(
            "application.compile=true: a compiled network has no second derivative, which "
            f"method={name} needs. Leave it out"
        )
    if method.all_classes and app.classes:
        raise InputError(
            f"application.classes={list(app.classes)}: method={name} makes images of all "
            "classes. Leave out application.classes"
        )


def _check_keys_of_generators(cfg: DictConfig, method: Method) -> None:
    name = cfg.method.name
    if cfg.n_generators > 1:
        raise InputError(
            f"n_generators={cfg.n_generators}: method={name} has no generator. "
            f"For more images set {method.size_key}"
        )
    if "l1" in cfg.loss:
        raise InputError(
            f"loss.l1: penalises the weights of a generator, but method={name} has no generator. "
            "Leave it out: ~loss.l1"
        )
