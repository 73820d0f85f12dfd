"""What is wrong with a config that its types cannot tell; nothing heavy is imported for it."""

from __future__ import annotations

import math

from omegaconf import DictConfig

from netinv_lightning.application_keys import INVERSIONS
from netinv_lightning.errors import InputError


def check(cfg: DictConfig) -> None:
    """Refuses values that no type can refuse, before anything heavy is imported or written.

    Raises:
        InputError: naming the key, its value and what is allowed.
    """
    for term, options in cfg.loss.items():
        key = f"loss.{term}.weight"
        if not isinstance(options, DictConfig) or "weight" not in options:
            raise InputError(f"{key}: is missing; a term of the objective is a mapping with a weight, such as {{weight: 1}}")
        weight = options.weight
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not math.isfinite(weight) or weight < 0:
            raise InputError(f"{key}={weight}: must be a finite number, 0 or more (~loss.{term} removes the term)")
    if cfg.n_generators < 1:
        raise InputError(f"n_generators={cfg.n_generators}: must be 1 or more")
    size = cfg.classifier.image_size
    if cfg.application.name in INVERSIONS and size is not None and not 28 <= size <= 64:
        raise InputError(f"classifier.image_size={size}: the generator makes images of 28 to 64 pixels a side")
    positive = {f"recipe.{key}": cfg.recipe[key] for key in ("epochs", "lr")}
    if cfg.method.name == "kkt":  # whose samples are its candidates
        positive["method.candidates"] = cfg.method.candidates
    if cfg.application.name in INVERSIONS:
        keys = ("steps", "lr", "eval_samples", "eval_batch_size", "grid_columns", "grid_every", "log_every", "checkpoint_every")
        positive |= {f"application.{key}": cfg.application[key] for key in keys}
    if cfg.application.name in ("reconstruct", "audit"):
        positive |= {f"application.{key}": cfg.application[key] for key in ("reconstructions", "members")}
    if cfg.data.subset_size is not None:
        positive["data.subset_size"] = cfg.data.subset_size
    if cfg.measure.samples is not None:
        positive["measure.samples"] = cfg.measure.samples
    for key, value in positive.items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{key}={value}: must be above 0")
    if cfg.classifier.train:
        _check_to_be_trained(cfg)


def _check_to_be_trained(cfg: DictConfig) -> None:
    """What contradicts `classifier.train=true`."""
    classifier = cfg.classifier
    for key in ("zoo", "path"):
        if classifier[key] is not None:
            raise InputError(
                f"classifier.train=true: classifier.{key}={classifier[key]} names trained weights already; "
                "choose a network to train (classifier=cnn, mlp, resnet or vit), or leave classifier.train out"
            )
    if not classifier.network:
        raise InputError("classifier.network: choose a network to train: classifier=cnn, mlp, resnet or vit")
    if cfg.application.name == "train_classifier":
        raise InputError("classifier.train=true: application=train_classifier trains it in any case; leave it out")
