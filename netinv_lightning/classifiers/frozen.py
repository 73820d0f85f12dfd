"""Classifier wrapper: takes images in [0, 1], normalises them, returns logits and features.

Shape suffixes: B batch, C channels, H height, W width, N classes, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from netinv_lightning.classifiers.forward_count import Passes
from netinv_lightning.classifiers.outputs import AUTO, Output, explain_failure, find_output
from netinv_lightning.classifiers.penultimate import head_features, head_layer, is_convolution
from netinv_lightning.classifiers.probing import (
    PROBED,
    check_normalisation,
    random_images,
    takes_channels_last,
    unwrapped,
)
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError, nearest, one_line
from netinv_lightning.training.float32 import widened

PENULTIMATE = "penultimate"
"""Name of the default feature layer: the input of the network's last nn.Linear, or else of its last convolution, pooled."""

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Classifier(nn.Module):
    """A network behind its normalisation.

    Args:
        network: Any module from normalised images [B, C, H, W] to logits [B, N], or to what `like` finds them in.
        spec: The data that it was trained on.
        like: A classifier with a network of the same kind; its output and memory format are used.
    """

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, network: nn.Module, spec: DataSpec, like: Classifier | None = None) -> None:
        super().__init__()
        self.network, self.spec = unwrapped(network), spec
        self.output: Output = Output() if like is None else like.output
        self.contiguous: bool = like is not None and like.contiguous
        self.normalisation_source: str = "" if like is None else like.normalisation_source
        # Not in the state dict: a checkpoint holds the network's own weights, the card holds mean and std.
        dtype = next(
            (weight.dtype for weight in network.parameters() if weight.is_floating_point()),
            torch.float32,
        )
        self.register_buffer(
            "mean_C11", torch.tensor(spec.mean, dtype=dtype).view(-1, 1, 1), persistent=False
        )
        self.register_buffer(
            "std_C11", torch.tensor(spec.std, dtype=dtype).view(-1, 1, 1), persistent=False
        )

    @property
    def name(self) -> str:
        """The class of the network, for messages."""
        return type(self.network).__name__

    @property
    def normalises(self) -> bool:
        """Whether mean and standard deviation of the training images are told; else images go in as they are."""
        return (set(self.spec.mean), set(self.spec.std)) != ({0.0}, {1.0})

    def describe_normalisation(self) -> str:
        """One line: mean and standard deviation in use and where they come from."""
        if not self.normalises:
            return "classifier: images are not normalised; if they were in training, set classifier.mean and classifier.std"
        mean, std = (
            [round(value, 4) for value in values] for values in (self.spec.mean, self.spec.std)
        )
        return f"classifier: images are normalised with mean {mean} and std {std} from {self.normalisation_source}"

    def record(self) -> dict[str, Any]:
        """What is assumed about the network, for the record of a run."""
        return {
            "network": self.name,
            "output": self.output.name,
            "output_kind": self.output.kind,
            "one_number_for_two_classes": self.output.single,
            "mean": list(self.spec.mean),
            "std": list(self.spec.std),
            "normalisation_from": self.normalisation_source,
        }

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self._normalised(x_BCHW)
        if self.contiguous:
            x_BCHW = x_BCHW.flatten(1).unflatten(1, x_BCHW.shape[1:])
        return self.output.logits(self._call(x_BCHW), x_BCHW)

    def _normalised(self, x_BCHW: Tensor) -> Tensor:
        return (x_BCHW.to(self.mean_C11.dtype) - self.mean_C11) / self.std_C11

    def _call(self, x_BCHW: Tensor) -> Any:
        try:
            return self.network(x_BCHW)
        except Exception as error:
            error.add_note(f"in the network {self.name}")
            raise

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Classifier:
        """Keep the weights of a network that needs contiguous memory in it, whatever format a parent is converted to."""
        super()._apply(fn, recurse)
        if self.contiguous:
            for tensor in (*self.network.parameters(), *self.network.buffers()):
                tensor.data = tensor.data.flatten().view(
                    tensor.shape
                )  # contiguous() leaves the strides of a single channel
        return self


class FrozenClassifier(Classifier):
    """A classifier that never changes: evaluation mode, no gradients to its weights, feature layers recorded (A1-2, A1-3).

    Args:
        network: The trained network.
        spec: The data that it was trained on.
        feature_layers: Modules of `network` by name, whose outputs are the features; `penultimate` is the input of
            its last fully connected layer, or else of its last convolution, averaged over all positions.
        output: Name or index of the logits in what the network returns; None to find them by the rule of
            `netinv_lightning.classifiers.outputs`.
        output_kind: What the network returns there: `logits`, `probabilities`, `log_probabilities`, `sigmoid` or `auto`.
        like: A frozen classifier with a network of the same kind, whose output and memory format are used instead.

    Raises:
        InputError: if a layer does not exist, or the network does not give N logits for images of `spec`.
    """

    def __init__(
        self,
        network: nn.Module,
        spec: DataSpec,
        feature_layers: Sequence[str] = (PENULTIMATE,),
        output: str | None = None,
        output_kind: str = AUTO,
        like: Classifier | None = None,
    ) -> None:
        check_normalisation(spec)
        super().__init__(network, spec, like)
        network = self.network
        self.trained = True  # False while it waits for its weights
        self.real_accuracy: float | None = None  # on real test images, where a run reads some
        self.feature_layers = tuple(feature_layers)
        self.passes = Passes()
        self.feature_shapes: dict[
            str, torch.Size
        ] = {}  # without the batch, before they are flattened
        self._head_shape = torch.Size()  # positions of the input of a convolution that is the head
        self._taps: dict[str, Tensor] | None = None  # hooks record only while `trace` runs
        self._normed: dict[str, Tensor] = {}
        self.eval()
        if like is None:
            self._probe(output, output_kind)  # a lazy layer has no weights before
        self.requires_grad_(False)
        self._handles = [self._tap(name) for name in self.feature_layers]
        self.batch_norms = {
            name: module
            for name, module in network.named_modules()
            if isinstance(module, BATCH_NORMS) and module.track_running_stats
        }
        for name, module in self.batch_norms.items():
            module.register_forward_pre_hook(partial(self._record_normed, name))
        self._check_features()

    def record(self) -> dict[str, Any]:
        return {**super().record(), "accuracy_on_real_images": self.real_accuracy}

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
            return (
                logits_BN,
                {name: widened(self._taps[name]).flatten(1) for name in self.feature_layers},
                self._normed,
            )
        finally:
            self._taps, self._normed = None, {}  # the graph is not to outlive the step

    def logits_from(self, f_BD: Tensor, layer: str = PENULTIMATE) -> Tensor:
        """Logits [B, N] that the rest of the network gives for the flattened features [B, D] of one feature layer.

        The part before the layer processes two black images, whose activations are replaced there. See `check_cut`.
        """
        module = self._layer(layer)
        replacement = f_BD.to(self.mean_C11.dtype).unflatten(1, self.feature_shapes[layer])
        if layer == PENULTIMATE and is_convolution(module):
            replacement = replacement[(..., *[None] * len(self._head_shape))].expand(
                -1, -1, *self._head_shape
            )
        replacement = replacement.clone()  # what follows may work in place

        def replace(*_: Any) -> Any:
            return (replacement,) if layer == PENULTIMATE else replacement

        handle = (
            module.register_forward_pre_hook(replace)
            if layer == PENULTIMATE
            else module.register_forward_hook(replace)
        )
        shape = (
            2,
            self.spec.channels,
            self.spec.image_size,
            self.spec.image_size,
        )  # BatchNorm may need the statistics of a batch
        try:
            black_2CHW = torch.zeros(shape, dtype=self.mean_C11.dtype, device=f_BD.device)
            return self.output.logits(self.network(black_2CHW), black_2CHW)
        finally:
            handle.remove()

    @torch.no_grad()
    def check_cut(self, layer: str) -> None:
        """Refuses a feature layer that the logits do not come from alone; `logits_from` needs one.

        Raises:
            InputError: naming the layer.
        """
        shape = (4, self.spec.channels, self.spec.image_size, self.spec.image_size)
        x_BCHW = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(
            self.mean_C11.device
        )
        logits_BN, features = self.logits_and_features(x_BCHW)
        try:
            same = torch.allclose(
                self.logits_from(features[layer], layer), logits_BN, rtol=1e-3, atol=1e-4
            )
        except Exception:  # shapes that do not fit, where a shortcut still carries the black images
            same = False
        if not same:
            other = (
                f"name a later one, such as {PENULTIMATE}"
                if layer != PENULTIMATE
                else "name another one"
            )
            raise InputError(
                f"classifier.feature_layers={layer}: the logits do not come from this layer alone (a shortcut leads around it, or it is "
                f"used more than once); {other}"
            )

    def check_gradient(self) -> None:
        """Refuse a network through which no gradient reaches the pixels; every method of inversion needs one.

        Raises:
            InputError: naming the network.
        """
        x_BCHW = random_images(self.spec, PROBED).to(self.mean_C11.device).requires_grad_()
        why = ""
        try:
            with torch.enable_grad():
                logits_BN = self(x_BCHW)
                if logits_BN.requires_grad:
                    weight_BN = torch.linspace(
                        1, 2, logits_BN.numel(), device=logits_BN.device
                    ).view_as(logits_BN)
                    (gradient_BCHW,) = torch.autograd.grad(
                        (logits_BN * weight_BN).sum(), x_BCHW, allow_unused=True
                    )
                    why = (
                        ""
                        if gradient_BCHW is not None and bool(gradient_BCHW.any())
                        else "the gradient is zero"
                    )
                else:
                    why = "its output does not depend on them differentiably"
        except Exception as error:
            why = f"{type(error).__name__}: {one_line(error)[:300]}"
        if why:
            raise InputError(
                f"classifier: no gradient reaches the pixels through {self.name} ({why}), and every method of inversion needs one; "
                "remove rounding, casts to integers, detach() and no_grad() from its forward"
            )

    def _tap(self, name: str) -> RemovableHandle:
        module = self._layer(name)
        if name == PENULTIMATE:
            return module.register_forward_pre_hook(partial(self._record_input, name))
        return module.register_forward_hook(partial(self._record_output, name))

    def _layer(self, name: str) -> nn.Module:
        """Return the module that a feature layer's name stands for; of `penultimate`, the one whose input it is."""
        modules = {path: module for path, module in self.network.named_modules() if path}
        if isinstance(self.network, torch.jit.ScriptModule):
            raise InputError(
                f"classifier.feature_layers={name}: features cannot be recorded inside a TorchScript network; set "
                "classifier.feature_layers=[] and remove the loss terms that need features (~loss.cosine ~loss.orthogonality)"
            )
        if name == PENULTIMATE:
            if (layer := head_layer(self.network)) is None:
                layers = (
                    f"name a layer of it: {', '.join(modules)}"
                    if modules
                    else "it has no layers: set classifier.feature_layers=[]"
                )
                raise InputError(
                    f"classifier.feature_layers={name}: {self.name} has no fully connected layer and no convolution; {layers}"
                )
            return layer
        if name not in modules:
            raise InputError(
                f"classifier.feature_layers={name}: the network has no such layer; {nearest(name, [PENULTIMATE, *modules])}"
            )
        return modules[name]

    # Hooks are bound methods, not closures, so that a copied or pickled classifier records for itself.
    def _record_input(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self._taps is not None:
            self._taps[name], self._head_shape = (
                head_features(module, inputs[0]),
                inputs[0].shape[2:],
            )

    def _record_output(
        self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Tensor
    ) -> None:
        if self._taps is None:
            return
        if not isinstance(output, Tensor):
            raise InputError(
                f"classifier.feature_layers={name}: its output is a {type(output).__name__}, not a tensor; name another layer"
            )
        self._taps[name] = output.clone()  # the next layer may work in place

    def _record_normed(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self._taps is not None:
            self._normed[name] = inputs[0]

    def _probe(self, output: str | None, output_kind: str) -> None:
        """Find the logits in what the network returns for random images, and whether it needs contiguous memory.

        Raises:
            InputError: if the network raises anything, or the logits are not found.
        """
        shape = (self.spec.channels, self.spec.image_size, self.spec.image_size)
        x_BCHW = self._normalised(random_images(self.spec, PROBED).to(self.mean_C11.device))
        try:
            with torch.enable_grad():  # the operations that autograd records tell a sigmoid
                returned = self.network(x_BCHW.requires_grad_() * 1)
        except Exception as error:
            raise explain_failure(self.name, shape, error) from error
        self.output = find_output(
            returned, self.name, PROBED, self.spec.num_classes, output, output_kind
        )
        self.contiguous = not takes_channels_last(self.network, x_BCHW.detach()[:2])

    @torch.no_grad()
    def _check_features(self) -> None:
        shape = (self.spec.channels, self.spec.image_size, self.spec.image_size)
        try:
            logits_BN, features = self.logits_and_features(
                torch.zeros(2, *shape, device=self.mean_C11.device)
            )
        except InputError:
            raise
        except KeyError as error:
            raise InputError(
                f"classifier.feature_layers: layer {error} takes no part in the network's forward pass"
            ) from error
        except Exception as error:
            raise explain_failure(self.name, shape, error) from error
        self.feature_dims = {name: f_BD.shape[1] for name, f_BD in features.items()}
        if logits_BN.shape != (2, self.spec.num_classes):
            raise InputError(
                f"classifier.num_classes={self.spec.num_classes}: the network gives outputs of shape {list(logits_BN.shape[1:])}; "
                "its logits and the number of classes must be equal"
            )
