"""A network with one class more than another: the garbage class, always the last."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from netinv_lightning.classifiers.architecture import build_network
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError

GARBAGE = "garbage"


def with_garbage_class(spec: DataSpec) -> DataSpec:
    """Return the spec with garbage as one more class."""
    return replace(spec, num_classes=spec.num_classes + 1, class_names=(*spec.class_names, GARBAGE))


def extended_network(network: dict[str, Any], spec: DataSpec) -> tuple[dict[str, Any], nn.Module]:
    """Build the described network with one class more than `spec`; return its description too."""
    described = dict(network)
    if "num_classes" in described:
        described["num_classes"] = spec.num_classes + 1
    return described, build_network(described, with_garbage_class(spec))


def copy_trained_weights(network: nn.Module, trained: nn.Module) -> None:
    """Copy the weights of `trained` into `network`, which has one class more.

    The weights of the additional class are not changed.

    Raises:
        InputError: naming a weight whose shape differs in more than the number of classes.
    """
    trained_weights, N = trained.state_dict(), _num_classes(trained)
    weights = network.state_dict()
    for name, weight in weights.items():
        old = trained_weights.get(name)
        if old is None or (
            old.shape != weight.shape
            and (old.shape[:1] != (N,) or weight.shape != (N + 1, *old.shape[1:]))
        ):
            raise InputError(
                f"garbage: the weight {name} of the network with a garbage class has the shape "
                f"{tuple(weight.shape)}; in the trained network it "
                f"{'is missing' if old is None else f'has the shape {tuple(old.shape)}'}. "
                "To start from new weights, set start=scratch"
            )
        if old.shape == weight.shape:
            weight.copy_(old)
        else:
            weight[:N] = old
    network.load_state_dict(weights)


def _num_classes(network: nn.Module) -> int:
    return next(len(weight) for weight in reversed(list(network.parameters())))
