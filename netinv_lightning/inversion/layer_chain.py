"""A network as a chain of affine maps and gates, for methods that invert layer by layer.

    x -> A_1 x + b_1 = z_1 -> a_1 = gate_1(z_1) -> A_2 a_1 + b_2 = z_2 -> ... -> z_K = logits

An affine map merges all neighbouring affine layers: the normalisation of the images, fully
connected layers, convolutions, average pooling, and BatchNorm in evaluation mode. A gate is a ReLU
or LeakyReLU, a max-pooling, or a LeakyReLU and then a max-pooling.

Shape suffixes: B batch, N classes, n inputs and m outputs of an affine map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.forward_count import uncounted
from netinv_lightning.classifiers.frozen import BATCH_NORMS, FrozenClassifier
from netinv_lightning.classifiers.probing import random_images
from netinv_lightning.errors import InputError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
MEANS = (
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
)
NOTHING = (nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
AFFINE = (nn.Linear, *CONVOLUTIONS, *BATCH_NORMS, *MEANS, *NOTHING)
MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
RELUS = (nn.ReLU, nn.LeakyReLU)
KNOWN = (*AFFINE, *MAX_POOLS, *RELUS)


class Affine:
    """An affine map A a + b of batched tensors, with its adjoint.

    Args:
        layers: The layers, each an affine function of a batch.
        shape: Shape of one input.
        device: The device of the layers.
        dense: Whether no layer is a convolution, so that A is stored as a matrix.
    """

    def __init__(
        self,
        layers: list[Callable[[Tensor], Tensor]],
        shape: torch.Size,
        device: torch.device,
        dense: bool,
    ) -> None:
        self.layers, self.shape, self.dense = layers, shape, dense
        zero = torch.zeros(1, *shape, device=device)
        with torch.no_grad():
            self.bias = self._forward(zero)[0]
        self._graph: tuple[Tensor, Tensor] | None = None
        self.matrix_nm: Tensor | None = None
        if dense:
            with torch.no_grad():
                rows = torch.eye(shape.numel(), device=device).view(-1, *shape)
                self.matrix_nm = (self._forward(rows) - self.bias).flatten(1)

    def _forward(self, a: Tensor) -> Tensor:
        for layer in self.layers:
            a = layer(a)
        return a

    @torch.no_grad()
    def __call__(self, a: Tensor) -> Tensor:
        return self.linear(a) + self.bias

    @torch.no_grad()
    def linear(self, a: Tensor) -> Tensor:
        """Return A a."""
        if self.matrix_nm is not None:
            return (a.flatten(1) @ self.matrix_nm).view(-1, *self.bias.shape)
        return self._forward(a) - self.bias

    def adjoint(self, z: Tensor) -> Tensor:
        """Return A^T z: the gradient of <A a, z>, which is the same at every a."""
        if self.matrix_nm is not None:
            return (z.flatten(1) @ self.matrix_nm.T).view(-1, *self.shape)
        if self._graph is None or len(self._graph[0]) != len(z):
            with torch.enable_grad():
                at = torch.zeros(len(z), *self.shape, device=z.device, requires_grad=True)
                self._graph = at, self._forward(at)
        at, out = self._graph
        return torch.autograd.grad(out, at, z, retain_graph=True)[0]

    def release(self) -> None:
        """Free the graph of the adjoint."""
        self._graph = None


@dataclass(frozen=True)
class Gate:
    """LeakyReLU, then the maximum over windows that do not overlap.

    Attributes:
        slope: Negative slope; 0 for ReLU, 1 for no activation.
        window: Sides of a window; empty without pooling.
    """

    slope: float = 1.0
    window: tuple[int, ...] = ()

    def __call__(self, z: Tensor) -> Tensor:
        a = torch.where(z > 0, z, self.slope * z)
        return self.windows(a).amax(dim=-1) if self.window else a

    def windows(self, z: Tensor) -> Tensor:
        """Return the values of each window in the last dimension; values outside are left out."""
        for number, side in enumerate(self.window):
            dim = 2 + number
            kept = z.shape[dim] // side * side
            z = z.narrow(dim, 0, kept).unfold(dim, side, side)
        return z.flatten(-len(self.window)) if self.window else z[..., None]

    def with_windows(self, z: Tensor, values: Tensor) -> Tensor:
        """Return a copy of `z` whose windows have these values."""
        if not self.window:
            return values[..., 0]
        z, rank = z.clone(), len(self.window)
        values = values.unflatten(-1, self.window)
        order = [0, 1]  # each window side follows its position
        for axis in range(rank):
            order += [2 + axis, 2 + rank + axis]
        kept = values.permute(order)
        for axis in range(rank):
            kept = kept.flatten(2 + axis, 3 + axis)
        z[(slice(None), slice(None), *(slice(side) for side in kept.shape[2:]))] = kept
        return z


@dataclass
class Chain:
    """The whole network: K affine maps with K - 1 gates between them."""

    affines: list[Affine] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)

    def __call__(self, x: Tensor) -> Tensor:
        for affine, gate in zip(self.affines, self.gates, strict=False):
            x = gate(affine(x))
        return self.affines[-1](x)


def chain_of(classifier: FrozenClassifier, method: str) -> Chain:
    """Return the layers of a classifier as a chain that computes its logits.

    Args:
        classifier: The classifier.
        method: The method that needs the chain, for the error.

    Raises:
        InputError: if it has other layers, overlapping windows or shortcuts.
    """

    def refuse(what: str) -> InputError:
        return InputError(
            f"method={method}: needs a chain of linear layers, convolutions, BatchNorm, ReLU or "
            f"LeakyReLU and pooling, but this network {what}. Set method=gradient, which takes any "
            "network"
        )

    for name, module in classifier.network.named_modules():
        if not any(True for _ in module.children()) and not isinstance(module, KNOWN):
            raise refuse(f"has {type(module).__name__} ({name or 'the network itself'})")
        if isinstance(module, nn.MultiheadAttention):
            raise refuse(f"has attention ({name})")
    with uncounted(classifier), torch.no_grad():
        x_BCHW = random_images(classifier.spec, 4).to(classifier.mean_C11.device)
        expected_BN = classifier(x_BCHW)
        called = _called(classifier, x_BCHW)
        try:
            chain = _merged(classifier, called, refuse)
            same = torch.allclose(chain(x_BCHW), expected_BN, rtol=1e-3, atol=1e-3)
        except RuntimeError:  # shapes differ if there is a shortcut or a function between layers
            same = False
    if not same:
        raise refuse("computes something else between its layers, such as a shortcut")
    return chain


def _called(classifier: FrozenClassifier, x_BCHW: Tensor) -> list[tuple[nn.Module, torch.Size]]:
    """Return the layers in the order in which the network calls them, with one input's shape."""
    called: list[tuple[nn.Module, torch.Size]] = []

    def note(module: nn.Module, arguments: tuple[Any, ...], _: Any) -> None:
        called.append((module, arguments[0].shape[1:]))

    handles = [
        module.register_forward_hook(note)
        for module in classifier.network.modules()
        if isinstance(module, KNOWN)
    ]
    try:
        classifier(x_BCHW)
    finally:
        for handle in handles:
            handle.remove()
    return called


def _merged(
    classifier: FrozenClassifier,
    called: list[tuple[nn.Module, torch.Size]],
    refuse: Callable[[str], InputError],
) -> Chain:
    """Merge neighbouring affine layers, and a LeakyReLU with the max-pooling that follows it."""
    device = classifier.mean_C11.device
    chain, shape = Chain(), torch.Size(classifier.spec.shape)
    layers: list[Callable[[Tensor], Tensor]] = [partial(_normalised, classifier)]
    dense = True
    for module, input_shape in called:
        if isinstance(module, (*RELUS, *MAX_POOLS)):
            gate = _gate(module, len(input_shape) - 1, refuse)
            if not layers and gate.window and not chain.gates[-1].window:  # follows a LeakyReLU
                chain.gates[-1] = Gate(chain.gates[-1].slope, gate.window)
                continue
            chain.affines.append(Affine(layers, shape if layers else input_shape, device, dense))
            chain.gates.append(gate)
            layers, dense = [], True
        else:
            if not layers:
                shape = input_shape
            layers.append(module)
            dense &= not isinstance(module, CONVOLUTIONS)
    if not layers:
        raise refuse("ends with an activation or a pooling")
    chain.affines.append(Affine(layers, shape, device, dense))
    return chain


def _normalised(classifier: FrozenClassifier, x_BCHW: Tensor) -> Tensor:
    return (x_BCHW - classifier.mean_C11) / classifier.std_C11


def _gate(module: nn.Module, rank: int, refuse: Callable[[str], InputError]) -> Gate:
    if isinstance(module, RELUS):
        return Gate(float(getattr(module, "negative_slope", 0.0)))

    def sides(value: Any) -> tuple[int, ...]:
        return tuple(value) if isinstance(value, (tuple, list)) else (int(value),) * rank

    window = sides(module.kernel_size)
    plain = sides(module.padding) == (0,) * rank and sides(module.dilation) == (1,) * rank
    if sides(module.stride) != window or not plain or module.ceil_mode:
        raise refuse(f"has a max-pooling whose windows overlap or are padded ({module})")
    return Gate(window=window)
