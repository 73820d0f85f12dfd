"""A classifier as the rest of the house sees it: images in [0, 1] in, logits out; it normalises inside.

Shape suffixes: B batch, C channels, H height, W width, N classes, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from netinv_lightning.classifiers.passes import Passes
from netinv_lightning.data.spec import DataSpec
from netinv_lightning.errors import InputError, nearest, one_line
from netinv_lightning.float32 import widened

PENULTIMATE = "penultimate"
"""Name of the default feature layer: the input of the network's last nn.Linear."""

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def last_linear(network: nn.Module) -> nn.Linear | None:
    """The last fully connected layer, which reads the penultimate features; None for a network without one."""
    return next((module for module in reversed([*network.modules()]) if isinstance(module, nn.Linear)), None)


class Classifier(nn.Module):
    """A network behind its normalisation.

    Args:
        network: Any module from normalised images [B, C, H, W] to logits [B, N].
        spec: The data that it was trained on.
    """

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, network: nn.Module, spec: DataSpec) -> None:
        super().__init__()
        self.network, self.spec = network, spec
        # Not in the state dict: a checkpoint holds the network's own weights, the card holds mean and std.
        self.register_buffer("mean_C11", torch.tensor(spec.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std_C11", torch.tensor(spec.std).view(-1, 1, 1), persistent=False)

    @property
    def normalises(self) -> bool:
        """Whether mean and standard deviation of the training images are told; else images go in as they are."""
        return (set(self.spec.mean), set(self.spec.std)) != ({0.0}, {1.0})

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return widened(self.network((x_BCHW.to(self.mean_C11.dtype) - self.mean_C11) / self.std_C11))


class FrozenClassifier(Classifier):
    """A classifier that never changes: evaluation mode, no gradients to its weights, feature layers tapped (A1-2, A1-3).

    Args:
        network: The trained network.
        spec: The data that it was trained on.
        feature_layers: Modules of `network` by name, whose outputs are the features; `penultimate` is the input of
            its last fully connected layer.

    Raises:
        InputError: if a layer does not exist, or the network does not give N logits for images of `spec`.
    """

    def __init__(self, network: nn.Module, spec: DataSpec, feature_layers: Sequence[str] = (PENULTIMATE,)) -> None:
        super().__init__(network, spec)
        self.feature_layers = tuple(feature_layers)
        self.passes = Passes()
        self.feature_shapes: dict[str, torch.Size] = {}  # without the batch, before they are flattened
        self._taps: dict[str, Tensor] | None = None  # hooks record only while `trace` runs
        self._normed: dict[str, Tensor] = {}
        self._handles = [self._tap(name) for name in self.feature_layers]
        self.batch_norms = {
            name: module for name, module in network.named_modules() if isinstance(module, BATCH_NORMS) and module.track_running_stats
        }
        for name, module in self.batch_norms.items():
            module.register_forward_pre_hook(partial(self._record_normed, name))
        self.requires_grad_(False)
        self.eval()
        self._check_shapes()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return super().forward(self.passes.count(x_BCHW))

    def train(self, mode: bool = True) -> FrozenClassifier:
        """Stays in evaluation mode whatever its parent module does."""
        return super().train(False)

    def logits_and_features(self, x_BCHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits [B, N] and, for each feature layer, its flattened output [B, D]."""
        return self.trace(x_BCHW)[:2]

    def trace(self, x_BCHW: Tensor) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The same, and for each BatchNorm layer what goes into it, [B, C, ...]."""
        self._taps, self._normed = {}, {}
        try:
            logits_BN = self(x_BCHW)
            self.feature_shapes = {name: self._taps[name].shape[1:] for name in self.feature_layers}
            return logits_BN, {name: widened(self._taps[name]).flatten(1) for name in self.feature_layers}, self._normed
        finally:
            self._taps, self._normed = None, {}  # the graph is not to outlive the step

    def logits_from(self, f_BD: Tensor, layer: str = PENULTIMATE) -> Tensor:
        """Logits [B, N] that the rest of the network gives for the flattened features [B, D] of one feature layer.

        The part before the layer sees a single black image, whose activations are replaced there. See `check_cut`.
        """
        replacement = f_BD.unflatten(1, self.feature_shapes[layer]).clone()  # what follows may work in place
        module = self._layer(layer)

        def replace(*_: Any) -> Any:
            return (replacement,) if layer == PENULTIMATE else replacement

        handle = module.register_forward_pre_hook(replace) if layer == PENULTIMATE else module.register_forward_hook(replace)
        shape = (1, self.spec.channels, self.spec.image_size, self.spec.image_size)
        try:
            logits_BN: Tensor = self.network(torch.zeros(shape, dtype=f_BD.dtype, device=f_BD.device))
        finally:
            handle.remove()
        return logits_BN

    @torch.no_grad()
    def check_cut(self, layer: str) -> None:
        """Refuses a feature layer that the logits do not come from alone; `logits_from` needs one.

        Raises:
            InputError: naming the layer.
        """
        shape = (4, self.spec.channels, self.spec.image_size, self.spec.image_size)
        x_BCHW = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(self.mean_C11.device)
        logits_BN, features = self.logits_and_features(x_BCHW)
        try:
            same = torch.allclose(self.logits_from(features[layer], layer), logits_BN, rtol=1e-3, atol=1e-4)
        except RuntimeError:  # shapes that do not fit, where a shortcut still carries the single image
            same = False
        if not same:
            raise InputError(
                f"classifier.feature_layers={layer}: the logits do not come from this layer alone (a shortcut leads around it, or it is "
                f"used more than once); name a later one, such as {PENULTIMATE}"
            )

    def _tap(self, name: str) -> RemovableHandle:
        module = self._layer(name)
        if name == PENULTIMATE:
            return module.register_forward_pre_hook(partial(self._record_input, name))
        return module.register_forward_hook(partial(self._record_output, name))

    def _layer(self, name: str) -> nn.Module:
        """The module that a feature layer's name stands for; of `penultimate`, the one whose input it is."""
        modules = {path: module for path, module in self.network.named_modules() if path}
        if name == PENULTIMATE:
            if (linear := last_linear(self.network)) is None:
                layers = (
                    f"name a layer of it: {', '.join(modules)}" if modules else "it has no layers at all: give classifier.feature_layers=[]"
                )
                raise InputError(f"classifier.feature_layers={name}: the network has no fully connected layer; {layers}")
            return linear
        if name not in modules:
            raise InputError(f"classifier.feature_layers={name}: the network has no such layer; {nearest(name, [PENULTIMATE, *modules])}")
        return modules[name]

    # Hooks are bound methods, not closures, so that a copied or pickled classifier records for itself.
    def _record_input(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self._taps is not None:
            self._taps[name] = inputs[0]

    def _record_output(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if self._taps is None:
            return
        if not isinstance(output, Tensor):
            raise InputError(f"classifier.feature_layers={name}: its output is a {type(output).__name__}, not a tensor; name another layer")
        self._taps[name] = output.clone()  # the next layer may work in place

    def _record_normed(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self._taps is not None:
            self._normed[name] = inputs[0]

    @torch.no_grad()
    def _check_shapes(self) -> None:
        spec = self.spec
        if not len(spec.mean) == len(spec.std) == spec.channels:
            raise InputError(
                f"classifier.mean={list(spec.mean)}, classifier.std={list(spec.std)}: must have {spec.channels} values each, one a channel"
            )
        if min(spec.std) <= 0:
            raise InputError(f"classifier.std={list(spec.std)}: must be above 0")
        shape = (spec.channels, spec.image_size, spec.image_size)
        try:
            logits_BN, features = self.logits_and_features(torch.zeros(2, *shape, device=self.mean_C11.device))
        except InputError:
            raise
        except KeyError as error:
            raise InputError(f"classifier.feature_layers: layer {error} takes no part in the network's forward pass") from error
        except (RuntimeError, ValueError, AssertionError) as error:
            raise InputError(
                f"classifier: the network does not take images of shape {shape} (classifier.channels, classifier.image_size): "
                f"{one_line(error)}"
            ) from error
        self.feature_dims = {name: f_BD.shape[1] for name, f_BD in features.items()}
        if logits_BN.shape != (2, spec.num_classes):
            raise InputError(
                f"classifier.num_classes={spec.num_classes}: the network gives outputs of shape {list(logits_BN.shape[1:])}; "
                "its logits and the number of classes must be equal"
            )
