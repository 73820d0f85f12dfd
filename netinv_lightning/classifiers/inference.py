"""Infer classes, channels, size and normalisation of a network that was handed over in Python.

The sources, in this order: what the caller gives; what timm and Hugging Face store in the network;
its first layer; forward passes with random images.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.outputs import LOGITS, child, tensors
from netinv_lightning.config.shapes import sides_of
from netinv_lightning.data.specs import UNITS
from netinv_lightning.errors import InputError
from netinv_lightning.runs.notices import notice

SIZES = (28, 32, 48, 64, 96, 128, 160, 192, 224, 240, 256, 260, 288, 299, 300, 320, 384, 448, 512)
"""Common side lengths of square images, in pixels, with which the network is tried."""


def infer_facts(
    network: nn.Module, given: Mapping[str, Any], output: str | None = None
) -> dict[str, Any]:
    """Complete `given` with values that are inferred from the network, and print the latter.

    Args:
        network: In evaluation mode. It is called with random images only if a value is missing.
        given: `num_classes`, `channels`, `image_size`, `mean`, `std`; None for the missing ones.
            `shape`, unless it is None, stands for `channels` and `image_size`.
        output: Name of the logits in the output.

    Raises:
        InputError: naming the argument that cannot be inferred.
    """
    facts = {key: value for key, value in given.items() if value is not None}
    needed = ("num_classes",) if "shape" in facts else tuple(UNITS)
    if all(key in facts for key in needed):
        return facts
    stored, source = _stored(network)
    if facts.get("num_classes", stored.get("num_classes")) != stored.get("num_classes"):
        stored = {}  # the network was trained again for other classes
    if "shape" in facts:
        stored = {key: value for key, value in stored.items() if key == "num_classes"}
    why = {key: source for key in stored if key not in facts}
    facts = stored | facts
    for key, infer in (("channels", _channels), ("image_size", _size), ("num_classes", _classes)):
        if key in needed and key not in facts:
            facts[key], why[key] = infer(network, facts, output)
    said = [f"{facts[key]} {unit} ({why[key]})" for key, unit in UNITS.items() if key in why]
    if said:
        notice(f"network: inferred {', '.join(said)}; arguments of the same names override this")
    return facts


def _stored(network: nn.Module) -> tuple[dict[str, Any], str]:
    """Return the properties that timm or transformers stores in a network, and their source."""
    own = getattr(network, "pretrained_cfg", None)
    config: Any = getattr(network, "config", None)
    if isinstance(own, Mapping) and own.get("num_classes") == getattr(network, "num_classes", None):
        size = own.get("input_size") or (None, None, None)
        facts = {
            "num_classes": own.get("num_classes"),
            "channels": size[0],
            "image_size": size[1] if size[1] == size[2] else None,
            "mean": own.get("mean"),
            "std": own.get("std"),
        }
        return {key: value for key, value in facts.items() if value is not None}, "timm"
    if config is not None and hasattr(config, "num_labels"):
        found = {
            "num_classes": max(int(config.num_labels), 2),
            "channels": getattr(config, "num_channels", None),
            "image_size": getattr(config, "image_size", None),
        }
        return {key: value for key, value in found.items() if isinstance(value, int)}, "its config"
    return {}, ""


def _first_layer(network: nn.Module) -> nn.Module | None:
    kinds = (nn.Conv2d, nn.Linear)
    return next((module for module in network.modules() if isinstance(module, kinds)), None)


def _channels(network: nn.Module, facts: Mapping[str, Any], output: str | None) -> tuple[int, str]:
    first = _first_layer(network)
    if isinstance(first, nn.Conv2d):
        return first.in_channels, "its first convolution"
    if isinstance(first, nn.Linear):
        fitting = [
            channels
            for channels in (1, 3)
            if any(channels * side**2 == first.in_features for side in SIZES)
        ]
        if len(fitting) == 1:
            return fitting[0], "its first layer"
    raise InputError(
        "channels: cannot be inferred from the layers of the network; give channels, such as "
        "netinv_lightning.invert(network, channels=3)"
    )


def _size(network: nn.Module, facts: Mapping[str, Any], output: str | None) -> tuple[int, str]:
    taken = []
    for side in SIZES:
        if _returned(network, (facts["channels"], side, side)) is not None:
            taken.append(side)
        if len(taken) == 2:
            raise InputError(
                f"image_size: cannot be inferred, since the network takes images of {taken[0]} and "
                f"of {taken[1]} pixels; give the size it was trained with: image_size={taken[0]}"
            )
    if not taken:
        raise InputError(
            f"image_size: cannot be inferred; the network accepts no square images of "
            f"{facts['channels']} channels and {SIZES[0]} to {SIZES[-1]} pixels. Give channels and "
            "image_size"
        )
    return taken[0], "the only common size that it accepts"


def _classes(network: nn.Module, facts: Mapping[str, Any], output: str | None) -> tuple[int, str]:
    shape = facts.get("shape") or (facts["channels"], *sides_of(facts["image_size"]))
    returned = _returned(network, shape)
    found = tensors(returned) if returned is not None else {}
    if output is not None and returned is not None:
        value = returned
        try:
            for step in filter(None, output.split(".")):
                value = child(value, step)
        except (LookupError, TypeError):
            value = None
        found = {(): value} if isinstance(value, Tensor) else {}
    logits = [v for path, v in found.items() if not path or path[-1] == LOGITS]
    values = logits or [value for value in found.values() if value.dim() in (1, 2)]
    if len(values) != 1:
        raise InputError(
            f"num_classes: cannot be inferred, since the network returns {len(values)} tensors "
            "that may be the logits; give num_classes or output"
        )
    return max(values[0][0].numel(), 2), "its output"


@torch.no_grad()
def _returned(network: nn.Module, shape: Sequence[int]) -> Any:
    """Return what the network returns for two random inputs; None if it raises anything."""
    weight = next((w for w in network.parameters() if w.is_floating_point()), torch.zeros(1))
    x_BCHW = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    try:
        return network(x_BCHW.to(weight))
    except Exception:  # foreign code may raise anything
        return None
