"""A network with one class more than another: the garbage class, always the last (A1-17)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from netinv_lightning.classifiers.architecture import build_network
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError

GARBAGE = "garbage"


def with_garbage_class(spec: DataSpec) -> DataSpec:
    """The data of a classifier, with garbage as one more class."""
    return replace(spec, num_classes=spec.num_classes + 1, class_names=(*spec.class_names, GARBAGE))


def extended_network(network: dict[str, Any], spec: DataSpec) -> tuple[dict[str, Any], nn.Module]:
    """A new network like the one that `network` describes, for one class more than `spec` has, and its own description."""
    described = {
        **network,
        **({"num_classes": spec.num_classes + 1} if "num_classes" in network else {}),
    }
    return described, build_network(described, with_garbage_class(spec))


def take_over(network: nn.Module, trained: nn.Module) -> None:
    """Gives `network`, which has one class more, the weights of `trained`; those of the new class stay as they are.

    Raises:
        InputError: naming a weight that has another shape for another reason than the class.
    """
    weights, N = trained.state_dict(), _classes_of(trained)
    taken = network.state_dict()
    for name, weight in taken.items():
        old = weights.get(name)
        if old is None or (
            old.shape != weight.shape
            and (old.shape[:1] != (N,) or weight.shape != (N + 1, *old.shape[1:]))
        ):
            raise InputError(
                f"garbage: {name} of the network with a garbage class is {tuple(weight.shape)}, of the trained one "
                f"{'missing' if old is None else tuple(old.shape)}; start from new weights: start=scratch"
            )
        if old.shape == weight.shape:
            weight.copy_(old)
        else:
            weight[:N] = old
    network.load_state_dict(taken)


def _classes_of(network: nn.Module) -> int:
    return next(len(weight) for weight in reversed(list(network.parameters())))
