"""Penultimate features: the input of the last fully connected layer, or of the last convolution.

Shape suffixes: B batch, C channels, D features.
"""

from __future__ import annotations

from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

LOGITS = "logits"
"""The logits as features, for networks whose layers cannot be recorded."""
PENULTIMATE = "penultimate"
"""The default features: the input of the last nn.Linear, or of the last convolution, pooled."""


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


def head_features(layer: nn.Module, value: Tensor) -> Tensor:
    """Return the input of the head; for a convolution, its mean over all positions, [B, C]."""
    return value.flatten(2).mean(dim=2) if is_convolution(layer) else value
