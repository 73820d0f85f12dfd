"""Check the terms of the objective.

This module does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig

from netinv_lightning.config.loss_terms import LOSS_TERMS, WHEN
from netinv_lightning.errors import InputError, nearest


def check_loss(cfg: DictConfig) -> None:
    """Refuse unknown terms of the objective, and weights and options that are out of range.

    Raises:
        InputError: naming the key.
    """
    for term, options in _items(cfg.loss):
        key = f"loss.{term}"
        if not isinstance(options, DictConfig) or "weight" not in options:
            raise InputError(
                f"{key}.weight: is missing. A term of the objective is a mapping with a weight, "
                "such as {weight: 1}"
            )
        weight = options.weight
        if (
            isinstance(weight, bool)
            or not isinstance(weight, (int, float))
            or not math.isfinite(weight)
            or weight < 0
        ):
            raise InputError(
                f"{key}.weight={weight}: must be a finite number, 0 or more. To remove the term, "
                f"use ~{key}"
            )
        if "when" in options and (fault := WHEN.fault(options.when)):
            raise InputError(f"{key}.when={options.when}: {fault}")
        if "_target_" in options:  # a custom term
            continue
        if term not in LOSS_TERMS:
            raise InputError(
                f"{key}: there is no such term; "
                f"{nearest(term, LOSS_TERMS, f'For a custom term set {key}._target_')}"
            )
        allowed = LOSS_TERMS[term]
        for option, value in _items(options):
            if option in ("weight", "when"):
                continue
            if option not in allowed:
                raise InputError(
                    f"{key}.{option}: the term has no such option; "
                    f"{nearest(option, ['weight', *allowed])}"
                )
            if fault := allowed[option].fault(value):
                raise InputError(f"{key}.{option}={value}: {fault}")
    if cfg.loss and not any(options.weight for options in cfg.loss.values()):
        raise InputError(
            "loss: every term has weight 0, so there is nothing to train on: "
            f"{', '.join(map(str, cfg.loss))}"
        )


def check_layers(term: str, layers: Sequence[str] | None, recorded: Sequence[str]) -> None:
    """Refuse a term with a layer whose features are not recorded.

    Args:
        term: Name of the term.
        layers: Its option `layers`; None for all layers.
        recorded: The layers whose features are recorded.

    Raises:
        InputError: naming the layer.
    """
    for layer in layers or ():
        if layer not in recorded:
            raise InputError(
                f"loss.{term}.layers={layer}: is not in classifier.feature_layers; "
                f"{nearest(layer, recorded)}"
            )


def _items(section: DictConfig) -> Iterator[tuple[str, Any]]:
    return ((str(key), value) for key, value in section.items())
