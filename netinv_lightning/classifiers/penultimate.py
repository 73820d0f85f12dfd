"""The penultimate features of any network: the input of its last fully connected layer, or else of its last convolution.

Shape suffixes: B batch, C channels, D features.
"""

from __future__ import annotations

from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def last_linear(network: nn.Module) -> nn.Linear | None:
    """Return the last fully connected layer, in the order of `network.modules()`; None if there is none."""
    return next(
        (module for module in reversed([*network.modules()]) if isinstance(module, nn.Linear)), None
    )


def head_layer(network: nn.Module) -> nn.Module | None:
    """Return the layer whose input is the penultimate feature; None for a network with neither linear layers nor convolutions."""
    convolution = next(
        (module for module in reversed([*network.modules()]) if isinstance(module, CONVOLUTIONS)),
        None,
    )
    return last_linear(network) or convolution


def is_convolution(layer: nn.Module) -> bool:
    return isinstance(layer, CONVOLUTIONS)


def head_features(layer: nn.Module, value: Tensor) -> Tensor:
    """Return the penultimate features: the input of `layer` itself, of a convolution its mean over all positions, [B, C]."""
    return value.flatten(2).mean(dim=2) if is_convolution(layer) else value
