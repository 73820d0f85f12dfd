"""BatchNorm folded into the layer before it, for as long as a training lasts.

In evaluation mode BatchNorm is an affine map of each channel, which the convolution or the fully
connected layer before it can compute with other weights:

    w' = w g / sqrt(v + eps),    b' = (b - m) g / sqrt(v + eps) + beta

with the running mean m and variance v, and the weight g and bias beta of the BatchNorm layer.

Shape suffixes: B batch, C channels, N classes, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from netinv_lightning.classifiers.forward_count import uncounted
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.probing import (
    PROBED,
    probe_outputs,
    random_images,
    same_up_to_rounding,
)

FOLDED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""Layers that a BatchNorm layer can be folded into. Subclasses that compute something else, and
those of BatchNorm, are left alone."""


@contextmanager
def folded_batch_norms(classifier: FrozenClassifier) -> Iterator[list[str]]:
    """Context in which layers compute what the BatchNorm layers after them would compute.

    Logits, features and gradients stay the same up to rounding; if they do not, because the network
    uses a layer's output elsewhere, nothing is folded. The weights are not changed. Inputs of
    folded layers are not recorded.

    Yields:
        The names of the folded BatchNorm layers.
    """
    pairs = _pairs(classifier)
    if not pairs:
        yield []
        return
    before = probe_outputs(classifier)
    changed = {module for pair in pairs.values() for module in pair}
    for layer, batch_norm in pairs.values():
        layer.forward = FoldedLayer(layer, batch_norm)  # type: ignore[method-assign]
        batch_norm.forward = _unchanged  # type: ignore[assignment, method-assign]
    classifier.recorder.folded = frozenset(pairs)
    try:
        if same := all(map(same_up_to_rounding, probe_outputs(classifier), before)):
            yield list(pairs)
    finally:
        classifier.recorder.folded = frozenset()
        for module in changed:
            del module.forward  # the one of its class is used again
    if not same:
        yield []


class FoldedLayer:
    """The forward pass of a layer and the BatchNorm layer after it.

    The weights are computed again if the network is moved to another device or data type.
    """

    def __init__(self, layer: nn.Module, batch_norm: _BatchNorm) -> None:
        self.layer, self.batch_norm = layer, batch_norm
        self._fold()

    def __call__(self, x_BC: Tensor) -> Tensor:
        current: Tensor = self.layer.weight  # type: ignore[assignment]
        if (current.device, current.dtype) != (self.weight.device, self.weight.dtype):
            self._fold()
        if isinstance(self.layer, nn.Linear):
            return F.linear(x_BC, self.weight, self.bias)
        y_BC: Tensor = self.layer._conv_forward(x_BC, self.weight, self.bias)  # type: ignore[operator]
        return y_BC

    @torch.no_grad()
    def _fold(self) -> None:
        layer, norm = self.layer, self.batch_norm
        statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        weight, bias = fuse_conv_bn_weights(layer.weight, layer.bias, *statistics)  # type: ignore[arg-type]
        self.weight, self.bias = weight.detach(), bias.detach()


def _unchanged(x_BC: Tensor) -> Tensor:
    return x_BC


def _pairs(classifier: FrozenClassifier) -> dict[str, tuple[nn.Module, _BatchNorm]]:
    """Return the layer before each BatchNorm layer that gets nothing else, by the latter's name."""
    outputs: dict[int, list[Any]] = {}  # of layers that can be folded; with the tensor, so that
    inputs: dict[str, list[Tensor]] = {}  # its id is not used again
    calls: dict[nn.Module, int] = {}

    def after(module: nn.Module, _: tuple[Any, ...], output: Tensor) -> None:
        calls[module] = calls.get(module, 0) + 1
        outputs[id(output)] = [module, output]

    def before(name: str) -> Any:
        return lambda module, inputs_: inputs.setdefault(name, []).append(inputs_[0])

    if isinstance(classifier.network, torch.jit.ScriptModule):
        return {}
    handles = [
        module.register_forward_hook(after)
        for module in classifier.network.modules()
        if type(module) in FOLDED and "forward" not in vars(module)
    ]
    norms = {
        name: module
        for name, module in classifier.batch_norms.items()
        if type(module).forward is _BatchNorm.forward and "forward" not in vars(module)
    }
    handles += [module.register_forward_pre_hook(before(name)) for name, module in norms.items()]
    try:
        with torch.no_grad(), uncounted(classifier):
            classifier(random_images(classifier.spec, PROBED).to(classifier.mean_C11.device))
    finally:
        for handle in handles:
            handle.remove()
    tapped = {classifier.find_layer(name) for name in classifier.feature_layers}
    pairs: dict[str, tuple[nn.Module, _BatchNorm]] = {}
    for name, (x_BC, *more) in inputs.items():
        layer = outputs.get(id(x_BC), [None])[0]
        if layer is None or more or calls[layer] > 1 or layer in tapped:
            continue
        if not (isinstance(layer, nn.Linear) and x_BC.dim() > 2):  # its channels are the last axis
            pairs[name] = layer, norms[name]
    return pairs
