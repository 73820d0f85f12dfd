"""The objective: named, weighted terms (A2-5, A2-6, A2-11). Adding, removing or weighting a term is config only.

loss:
  kl: {weight: 1.0}
  cosine: {weight: 1.0, layers: [penultimate]}
  mine: {weight: 0.1, _target_: my_package.my_term}      # any callable (Step, **options) -> scalar
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial, wraps
from typing import Any

import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.allowed_targets import locate
from netinv_lightning.errors import InputError, nearest
from netinv_lightning.inversion import losses
from netinv_lightning.inversion.conditioning import Condition
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.inversion.stationarity import decayed_weights, margin_gradients, misalignment
from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.float32 import autocast_off


@dataclass
class Step:
    """What one training step made, for the terms to read.

    Attributes:
        x_BCHW: The generated images, in [0, 1].
        condition: What they were conditioned on.
        logits_BN: The classifier's logits for them.
        features: For each feature layer, the features [B, D].
        classifier: The frozen classifier.
        generator: The generator.
        perturbation: How the perturbed terms perturb.
        stream: Their randomness; None for torch's global one.
        normed: For each BatchNorm layer of the classifier, what went into it, [B, C, ...].
    """

    x_BCHW: Tensor
    condition: Condition
    logits_BN: Tensor
    features: Mapping[str, Tensor]
    classifier: FrozenClassifier
    generator: nn.Module = field(default_factory=nn.Identity)
    perturbation: Perturbation = field(default_factory=Perturbation)
    stream: Stream | None = None
    normed: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def perturbed_logits_BN(self) -> Tensor:
        """The classifier's logits for the perturbed images; made once a step, and only if a term asks."""
        with torch.set_grad_enabled(
            self.x_BCHW.requires_grad
        ):  # a term of weight 0 may ask first, for the others too
            return self.classifier(
                self.perturbation(self.x_BCHW, self.condition.label_B, self.classifier, self.stream)
            )

    def over_layers(self, term: Callable[[Tensor], Tensor], layers: Sequence[str] | None) -> Tensor:
        """The sum of a term over feature layers, by default over all of them."""
        for layer in layers or ():
            if layer not in self.features:
                raise InputError(
                    f"layers={layer}: is not among classifier.feature_layers; {nearest(layer, self.features)}"
                )
        total: Tensor = torch.stack(
            [term(self.features[layer]) for layer in layers or self.features]
        ).sum()
        return total


def kl(step: Step, double_softmax: bool = False) -> Tensor:
    return losses.kl_divergence(step.condition.target_BN, step.logits_BN, double_softmax)


def ce(step: Step, label_smoothing: float = 0.0) -> Tensor:
    return losses.cross_entropy(step.logits_BN, step.condition.label_B, label_smoothing)


def kl_perturbed(step: Step, double_softmax: bool = False) -> Tensor:
    return losses.kl_divergence(step.condition.target_BN, step.perturbed_logits_BN, double_softmax)


def ce_perturbed(step: Step, label_smoothing: float = 0.0) -> Tensor:
    return losses.cross_entropy(step.perturbed_logits_BN, step.condition.label_B, label_smoothing)


def cosine(step: Step, absolute: bool = False, layers: Sequence[str] | None = None) -> Tensor:
    return step.over_layers(lambda f_BD: losses.cosine_similarity(f_BD, absolute), layers)


def orthogonality(
    step: Step, normalize: bool = True, layers: Sequence[str] | None = None
) -> Tensor:
    return step.over_layers(lambda f_BD: losses.orthogonality(f_BD, normalize), layers)


def variation(step: Step) -> Tensor:
    return losses.variation(step.x_BCHW)


def pixel(step: Step) -> Tensor:
    return losses.pixel_range(step.x_BCHW)


def gradient(step: Step, per_image: bool = True) -> Tensor:
    return losses.gradient_norm(step.classifier, step.x_BCHW, step.condition.label_B, per_image)


def stationarity(step: Step, sharpness: float = 30.0) -> Tensor:
    """How far the batch is, as the training images with equal multipliers, from giving the classifier's weights up to scale; 0 to 2.

    A generator has no multiplier for each image: one that counts more is drawn more often (Haim et al. 2022; see `method=kkt`).
    """
    multiplier_B = torch.ones(len(step.x_BCHW), device=step.x_BCHW.device)
    gradients, _ = margin_gradients(
        step.classifier, step.x_BCHW, step.condition.label_B, multiplier_B, sharpness
    )
    return misalignment(decayed_weights(step.classifier), gradients)


def batch_norm(step: Step, pixels: float = 1.0) -> Tensor:
    """Mean distance of the batch to the statistics that the classifier keeps of its training data, over its BatchNorm layers.

    `pixels` weights the first statistics of all, mean and standard deviation of the classifier's normalisation. A network
    that remembers nothing gives 0.
    """
    layers = step.classifier.batch_norms
    terms = [
        losses.statistics_distance(x_BC, *_remembered(layers[name]))
        for name, x_BC in step.normed.items()
    ]
    total = torch.stack(terms).mean() if terms else step.x_BCHW.new_zeros(())
    if pixels and step.classifier.normalises:
        mean_C, std_C = step.classifier.mean_C11.flatten(), step.classifier.std_C11.flatten()
        total = total + pixels * losses.statistics_distance(step.x_BCHW, mean_C, std_C.square())
    return total


def class_spread(step: Step, distance: float = 0.25, pool: int = 4) -> Tensor:
    return losses.class_spread(step.x_BCHW, step.condition.label_B, distance, pool)


def _remembered(layer: nn.Module) -> tuple[Tensor, Tensor]:
    mean_C, var_C = layer.running_mean, layer.running_var
    assert isinstance(mean_C, Tensor)
    assert isinstance(var_C, Tensor)
    return mean_C, var_C


def l1(step: Step) -> Tensor:
    """Sum of the generator's absolute weights (not in the papers; the public notebooks add it)."""
    return torch.stack([weight.abs().sum() for weight in step.generator.parameters()]).sum()


_PAPERS = (kl, ce, cosine, orthogonality, kl_perturbed, ce_perturbed, variation, pixel, gradient)
TERMS: dict[str, Callable[..., Tensor]] = {
    term.__name__: term for term in (*_PAPERS, l1, batch_norm, class_spread, stationarity)
}
"""The terms by name: the papers' in their order (A2-11), then those of others."""


class Objective:
    """A weighted sum of named terms.

    Args:
        terms: Name to weight and options; a name outside `TERMS` gives a `_target_`, its function or the function's dotted path.
        feature_layers: The layers whose features a step holds; a term's `layers` must be among them.

    Raises:
        InputError: if a term, one of its options or its layers does not exist, or no term has a weight.
    """

    def __init__(
        self, terms: Mapping[str, Mapping[str, Any]], feature_layers: Sequence[str] | None = None
    ) -> None:
        if not terms:
            raise InputError("loss: has no terms; choose a preset, such as loss=inversion")
        self.weights: dict[str, float] = {}
        self._terms: dict[str, Callable[[Step], Tensor]] = {}
        self._options: dict[str, dict[str, Any]] = {}
        for name, settings in terms.items():
            options = {
                key: value for key, value in settings.items() if key not in ("weight", "_target_")
            }
            self.weights[name] = float(settings.get("weight", math.nan))
            if not 0 <= self.weights[name] < math.inf:
                raise InputError(
                    f"loss.{name}.weight={settings.get('weight')}: must be a finite number, 0 or more"
                )
            for layer in options.get("layers") or ():
                if feature_layers is not None and layer not in feature_layers:
                    raise InputError(
                        f"loss.{name}.layers={layer}: is not in classifier.feature_layers; {nearest(layer, feature_layers)}"
                    )
            self._options[name] = options
            self._terms[name] = _bind(name, _function(name, settings.get("_target_")), options)
        if not any(self.weights.values()):
            raise InputError(
                f"loss: every term has weight 0, so there is nothing to train on: {', '.join(self.weights)}"
            )

    @property
    def names(self) -> list[str]:
        return list(self._terms)

    def __call__(self, step: Step) -> dict[str, Tensor]:
        """The unweighted value of each term; those of weight 0 are measured, and give no gradient."""
        values = {}
        for name, term in self._terms.items():
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.weights[name] > 0):
                values[name] = term(step)
        return values

    def total(self, values: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum, over the terms with a weight."""
        total: Tensor = torch.stack(
            [self.weights[name] * value for name, value in values.items() if self.weights[name] > 0]
        ).sum()
        return total

    def floors(self, batch: int, feature_dims: Mapping[str, int]) -> dict[str, float]:
        """The least value of the terms that cannot reach 0: orthogonality of unit features, summed over its layers.

        Args:
            batch: Images a step.
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
                f"loss.{name}: there is no such term; {nearest(name, TERMS)} For a custom term set loss.{name}._target_"
            )
        return TERMS[name]
    try:
        found: Callable[..., Tensor] = (
            target if callable(target) else locate(target, f"loss.{name}._target_")
        )
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"loss.{name}._target_={target}: cannot be imported ({error}); give package.module.function"
        ) from error

    @wraps(found)  # with its parameters, which are its options
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
                f"loss.{name}.{option}: the term has no such option; {nearest(option, ['weight', *allowed])}"
            )
    return partial(function, **options)
