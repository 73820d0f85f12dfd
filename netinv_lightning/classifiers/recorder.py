"""What a frozen classifier records in its forward pass: features, and inputs of normalisations.

Shape suffixes: B batch, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.penultimate import head_features
from netinv_lightning.errors import InputError


class Recorder:
    """Hooks of a network, which record only inside `recording`.

    The hooks are bound methods, not closures, so that a copied classifier records into itself.

    Attributes:
        head_shape: Positions of the input of the last layer, if that is a convolution.
        summarise: Replaces the input of each BatchNorm layer, [B, C, ...]; None to keep it.
        folded: Names of the BatchNorm layers whose input is not computed (`folding`).
    """

    def __init__(self) -> None:
        self.head_shape = torch.Size()
        self.summarise: Callable[[Tensor], Tensor] | None = None
        self.folded: frozenset[str] = frozenset()
        self._features: dict[str, Tensor] | None = None
        self._normed: dict[str, Tensor] = {}

    @property
    def active(self) -> bool:
        """Whether the hooks record now."""
        return self._features is not None

    @contextmanager
    def recording(self) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
        """Context in which features and inputs of normalisations are recorded, each by its name."""
        before = self._features, self._normed
        features: dict[str, Tensor] = {}
        normed: dict[str, Tensor] = {}
        self._features, self._normed = features, normed
        try:
            yield features, normed
        finally:
            self._features, self._normed = before  # releases the graph

    def head_input(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Hook of the layer whose input is the penultimate feature."""
        if self._features is not None:
            self._features[name] = head_features(module, inputs[0])
            self.head_shape = inputs[0].shape[2:]

    def output(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Hook of a layer whose output is a feature."""
        if self._features is None:
            return
        if not isinstance(output, Tensor):
            raise InputError(
                f"classifier.feature_layers={name}: its output is a {type(output).__name__}, not a "
                "tensor; name another layer"
            )
        self._features[name] = output.clone()  # the next layer may work in place

    def batch_norm_input(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Hook of a BatchNorm layer."""
        if self._features is not None and name not in self.folded:
            x_BC = inputs[0]
            self._normed[name] = x_BC if self.summarise is None else self.summarise(x_BC)

    def token_input(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Hook of another normalisation layer; its input is recorded if it has a gradient."""
        if self._features is not None and inputs[0].requires_grad:
            self._normed[name] = inputs[0]
