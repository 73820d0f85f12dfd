"""Check the keys that a method of inversion cannot use.

This module does not import torch.
"""

from __future__ import annotations

from omegaconf import DictConfig

from netinv_lightning.config.application_schema import INVERSIONS
from netinv_lightning.config.method_schema import trains_generator
from netinv_lightning.errors import InputError


def check_method(cfg: DictConfig) -> None:
    """Refuse keys of a generator for a method without generator, and keys that kkt cannot use.

    Raises:
        InputError: naming the key.
    """
    if cfg.application.name not in INVERSIONS or trains_generator(cfg):
        return
    name, app = cfg.method.name, cfg.application
    if cfg.n_generators > 1:
        size = "method.candidates" if name == "kkt" else "application.eval_samples"
        raise InputError(
            f"n_generators={cfg.n_generators}: method={name} has no generator. "
            f"For more images set {size}"
        )
    if "l1" in cfg.loss:
        raise InputError(
            f"loss.l1: penalises the weights of a generator, but method={name} has no generator. "
            "Leave it out: ~loss.l1"
        )
    if name != "kkt":
        return
    if app.compile:
        raise InputError(
            "application.compile=true: a compiled network has no second derivative, which "
            "method=kkt needs. Leave it out"
        )
    if app.classes:
        raise InputError(
            f"application.classes={list(app.classes)}: method=kkt generates candidates of all "
            "classes. Leave out application.classes"
        )
