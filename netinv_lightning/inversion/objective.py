"""The objective: a weighted sum of named terms. Terms and weights are set in the config:

loss:
  kl: {weight: 1.0}
  cosine: {weight: 1.0, layers: [penultimate]}
  mine: {weight: 0.1, _target_: my_package.my_term}      # any callable (Step, **options) -> scalar
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.config.instantiate import locate
from netinv_lightning.config.loss_check import check_layers
from netinv_lightning.errors import InputError, nearest
from netinv_lightning.inversion import losses
from netinv_lightning.inversion.terms import LAYER_TERMS, TERMS, Step
from netinv_lightning.training.float32 import autocast_off


class Objective:
    """A weighted sum of named terms.

    Args:
        terms: Name to weight and options. A name outside `TERMS` needs a `_target_`: its function,
            or the dotted path of the function.
        feature_layers: The layers whose features a step contains; a term's `layers` must be among
            them.

    Raises:
        InputError: if a term, one of its options or its layers does not exist, or no term has a
            weight.
    """

    def __init__(
        self, terms: Mapping[str, Mapping[str, Any]], feature_layers: Sequence[str] | None = None
    ) -> None:
        if not terms:
            raise InputError("loss: has no terms; choose a preset, such as loss=inversion")
        self.weights: dict[str, float] = {}
        self._terms: dict[str, Callable[[Step], Tensor]] = {}
        self._options: dict[str, dict[str, Any]] = {}
        # Whether a term may read the classifier's layers or weights, and not only its outputs.
        self.reads_layers = any(
            name in LAYER_TERMS or settings.get("_target_") for name, settings in terms.items()
        )
        for name, settings in terms.items():
            options = {
                key: value for key, value in settings.items() if key not in ("weight", "_target_")
            }
            self.weights[name] = float(settings.get("weight", math.nan))
            if not 0 <= self.weights[name] < math.inf:
                raise InputError(
                    f"loss.{name}.weight={settings.get('weight')}: "
                    "must be a finite number, 0 or more"
                )
            if feature_layers is not None:
                check_layers(name, options.get("layers"), feature_layers)
            self._options[name] = options
            self._terms[name] = _bind(name, _function(name, settings.get("_target_")), options)
        if not any(self.weights.values()):
            raise InputError(
                "loss: every term has weight 0, so there is nothing to train on: "
                f"{', '.join(self.weights)}"
            )

    @property
    def names(self) -> list[str]:
        return list(self._terms)

    def __call__(self, step: Step) -> dict[str, Tensor]:
        """Return the unweighted value of each term; terms of weight 0 have no gradient."""
        values = {}
        for name, term in self._terms.items():
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.weights[name] > 0):
                values[name] = term(step)
        return values

    def total(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum over the terms whose weight is above 0."""
        total: Tensor = torch.stack(
            [self.weights[name] * value for name, value in values.items() if self.weights[name] > 0]
        ).sum()
        return total

    def score(self, step: Step, success: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss, and the values of `columns` without gradients, [V].

        Args:
            step: The step.
            success: A further measure of progress to log, such as the accuracy of the images.
        """
        terms = self(step)
        loss = self.total(terms)
        return loss, torch.stack([*terms.values(), loss, success]).detach()

    def columns(self, success: str) -> list[str]:
        """Return the metric names of the values of `score`; the last one is `success`."""
        return [*(names.loss(term) for term in self.names), names.LOSS_TOTAL, success]

    def named_values(
        self,
        columns: Sequence[str],
        values_V: Tensor,
        batch: int,
        feature_dims: Mapping[str, int],
    ) -> dict[str, float]:
        """Return values by metric name, with the excess of the terms over their floors.

        Args:
            columns: Metric names.
            values_V: Values, such as means over steps.
            batch: Images per step.
            feature_dims: D of each feature layer.
        """
        values = dict(zip(columns, values_V.tolist(), strict=True))
        for term, floor in self.floors(batch, feature_dims).items():
            values[names.excess(term)] = values[names.loss(term)] - floor
        return values

    def floors(self, batch: int, feature_dims: Mapping[str, int]) -> dict[str, float]:
        """Return the smallest possible value of each term that cannot reach 0.

        This is the orthogonality of unit features, summed over its layers.

        Args:
            batch: Images per step.
            feature_dims: D of each feature layer.
        """
        if "orthogonality" not in self._terms or not self._options["orthogonality"].get(
            "normalize", True
        ):
            return {}
        layers = self._options["orthogonality"].get("layers") or feature_dims
        return {
            "orthogonality": sum(
                losses.orthogonality_floor(batch, feature_dims[layer]) for layer in layers
            )
        }


def _function(name: str, target: str | Callable[..., Tensor] | None) -> Callable[..., Tensor]:
    if target is None:
        if name not in TERMS:
            raise InputError(
                f"loss.{name}: there is no such term; "
                f"{nearest(name, TERMS, f'For a custom term set loss.{name}._target_')}"
            )
        return TERMS[name]
    try:
        found: Callable[..., Tensor] = (
            target if callable(target) else locate(target, f"loss.{name}._target_")
        )
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"loss.{name}._target_={target}: cannot be imported ({error}); "
            "give package.module.function"
        ) from error

    @wraps(found)  # keeps the signature, whose parameters are the options of the term
    def without_autocast(step: Step, **options: Any) -> Tensor:
        with autocast_off(step.x_BCHW.device):
            return found(step, **options)

    return without_autocast


def _bind(
    name: str, function: Callable[..., Tensor], options: dict[str, Any]
) -> Callable[[Step], Tensor]:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    allowed = [parameter.name for parameter in parameters]
    for option in options:
        if option not in allowed and not takes_any:
            raise InputError(
                f"loss.{name}.{option}: the term has no such option; "
                f"{nearest(option, ['weight', *allowed])}"
            )
    return partial(function, **options)


def named_loss(name: str) -> Objective:
    """Return an objective that only names the loss that a method computes itself, for logging."""
    return Objective({name: {"weight": 1.0, "_target_": _not_a_term}})


def _not_a_term(step: Step) -> Tensor:
    raise NotImplementedError("the method computes this loss itself")
