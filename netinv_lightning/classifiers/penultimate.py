"""Penultimate features: the input of the last fully connected layer, or of the last convolution.

Shape suffixes: B batch, C channels, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from netinv_lightning.config.layer_names import LOGITS, PENULTIMATE
from netinv_lightning.errors import InputError, nearest

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def last_linear(network: nn.Module) -> nn.Linear | None:
    """Return the last fully connected layer in `network.modules()`; None if there is none."""
    return next(
        (module for module in reversed([*network.modules()]) if isinstance(module, nn.Linear)), None
    )


def head_layer(network: nn.Module) -> nn.Module | None:
    """Return the layer whose input is the penultimate feature; None if there is none."""
    convolution = next(
        (module for module in reversed([*network.modules()]) if isinstance(module, CONVOLUTIONS)),
        None,
    )
    return last_linear(network) or convolution


def is_convolution(layer: nn.Module) -> bool:
    return isinstance(layer, CONVOLUTIONS)


def find_layer(network: nn.Module, name: str, where: str) -> nn.Module:
    """Return a module by its name; for `penultimate`, the layer whose input it is.

    Args:
        network: The network.
        name: Name of the module.
        where: Name of the network, for the message.

    Raises:
        InputError: if there is no such module.
    """
    modules = {path: module for path, module in network.named_modules() if path}
    if isinstance(network, torch.jit.ScriptModule):
        raise InputError(
            f"classifier.feature_layers={name}: features cannot be recorded inside a "
            "TorchScript network; set classifier.feature_layers=[logits]"
        )
    if name == PENULTIMATE:
        if (layer := head_layer(network)) is None:
            none = "it has no layers: set classifier.feature_layers=[logits]"
            layers = f"name a layer of it: {', '.join(modules)}" if modules else none
            raise InputError(
                f"classifier.feature_layers={name}: {where} has no fully connected layer "
                f"and no convolution; {layers}"
            )
        return layer
    if name not in modules:
        raise InputError(
            f"classifier.feature_layers={name}: the network has no such layer; "
            f"{nearest(name, [PENULTIMATE, LOGITS, *modules])}"
        )
    return modules[name]


def head_features(layer: nn.Module, value: Tensor) -> Tensor:
    """Return the input of the head; for a convolution, its mean over all positions, [B, C]."""
    return value.flatten(2).mean(dim=2) if is_convolution(layer) else value
