"""Frozen classifier: a classifier that never changes and returns features besides the logits.

Shape suffixes: B batch, C channels, H height, W width, N classes, D features.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from netinv_lightning.classifiers.forward_count import ForwardCount
from netinv_lightning.classifiers.outputs import AUTO, find_output
from netinv_lightning.classifiers.penultimate import find_layer, is_convolution
from netinv_lightning.classifiers.probing import (
    PROBED,
    check_normalisation,
    explain_failure,
    gradient_fault,
    random_images,
    takes_channels_last,
)
from netinv_lightning.classifiers.recorder import Recorder
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.config.layer_names import LOGITS, PENULTIMATE
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.training.float32 import widened

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class FrozenClassifier(Classifier):
    """A classifier in evaluation mode, without gradients for its weights, that records features.

    Args:
        network: The trained network.
        spec: Properties of the training data.
        feature_layers: Names of modules of `network` whose outputs are the features; `penultimate`
            is the input of the last fully connected layer, or of the last convolution, averaged
            over all positions; `logits` are the logits.
        output: Name or index of the logits in what the network returns; None for the rule of
            `netinv_lightning.classifiers.outputs`.
        output_kind: What this output contains, one of `outputs.KINDS` or `auto`.
        like: A frozen classifier with the same kind of network, from which the settings of the
            output and of the memory format are copied.

    Raises:
        InputError: if a layer does not exist, or the network does not return N logits for images
            of `spec`.
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
        self.trained = True  # False until its weights are loaded
        self.real_accuracy: float | None = None  # on real test images, if the run reads any
        self.card: dict[str, Any] = {}  # the model card of its weights, if they have one
        self.feature_layers = tuple(feature_layers)
        self.forward_count = ForwardCount()
        # Of one image, before flattening.
        self.feature_shapes: dict[str, torch.Size] = {}
        self.recorder = Recorder()
        self.eval()
        if like is None:
            self._probe(output, output_kind)  # also creates the weights of lazy layers
        self.requires_grad_(False)
        self._handles = [self._tap(name) for name in self.feature_layers]
        self.batch_norms = {
            name: module
            for name, module in network.named_modules()
            if isinstance(module, BATCH_NORMS) and module.track_running_stats
        }
        for name, module in self.batch_norms.items():
            module.register_forward_pre_hook(partial(self.recorder.batch_norm_input, name))
        self._check_features()

    def record(self) -> dict[str, Any]:
        return {**super().record(), "accuracy_on_real_images": self.real_accuracy}

    def limited_to(self, access: str) -> FrozenClassifier:
        """Return this classifier with less access: outputs without gradients, layers and features.

        It shares weights, device and counts with this one, which its `whole` is.

        Args:
            access: `scores`, or `labels` for one-hot rows (multi-label: zeros and ones) instead of
                logits; other words do not limit it.
        """
        if access not in ("scores", "labels"):
            return self
        limited = copy.copy(self)
        limited.__dict__ |= {
            "_whole": self.whole,
            "_limit": access,
        }  # not registered as a submodule
        return limited

    @property
    def whole(self) -> FrozenClassifier:
        """The classifier without the limits of `limited_to`."""
        whole: FrozenClassifier = self.__dict__.get("_whole", self)
        return whole

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if (whole := self.whole) is not self:
            with torch.no_grad():
                logits_BN = whole(x_BCHW)
            return logits_BN if self.__dict__["_limit"] == "scores" else _labels(whole, logits_BN)
        return super().forward(self.forward_count.count(x_BCHW))

    def train(self, mode: bool = True) -> FrozenClassifier:
        """Stay in evaluation mode, even if a parent module is set to training mode."""
        return super().train(False)

    def logits_and_features(self, x_BCHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits [B, N] and the flattened output [B, D] of each feature layer."""
        return self.trace(x_BCHW)[:2]

    def trace(self, x_BCHW: Tensor) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Return logits, features, and the inputs of BatchNorm layers and layers of tokens.

        Raises:
            PermissionError: if the access is limited to outputs.
        """
        if self.whole is not self:
            raise PermissionError(f"access is limited to {self.__dict__['_limit']}: no features")
        with self.recorder.recording() as (recorded, normed):
            logits_BN = self(x_BCHW)
        self.feature_shapes = {name: recorded[name].shape[1:] for name in self.feature_layers}
        features = {name: widened(recorded[name]).flatten(1) for name in self.feature_layers}
        return logits_BN, features, normed

    def logits_from(self, f_BD: Tensor, layer: str = PENULTIMATE) -> Tensor:
        """Return the logits [B, N] that the rest of the network computes from features [B, D].

        The network processes two black images, whose activations at the layer are replaced by the
        features. `check_cut` tests whether this is valid for a layer.
        """
        module = self.find_layer(layer)
        if module is self:
            return f_BD
        replacement = f_BD.to(self.mean_C11.dtype).unflatten(1, self.feature_shapes[layer])
        if layer == PENULTIMATE and is_convolution(module):
            positions = self.recorder.head_shape
            replacement = replacement[(..., *[None] * len(positions))].expand(-1, -1, *positions)
        replacement = replacement.clone()  # later layers may work in place

        def replace(*_: Any) -> Any:
            return (replacement,) if layer == PENULTIMATE else replacement

        handle = (
            module.register_forward_pre_hook(replace)
            if layer == PENULTIMATE
            else module.register_forward_hook(replace)
        )
        shape = (2, *self.spec.shape)  # BatchNorm may need the statistics of a batch
        try:
            black_2CHW = torch.zeros(shape, dtype=self.mean_C11.dtype, device=f_BD.device)
            return self.output.logits(self.network(black_2CHW), black_2CHW)
        finally:
            handle.remove()

    @torch.no_grad()
    def check_cut(self, layer: str) -> None:
        """Check that the logits depend on the images through this feature layer alone.

        Raises:
            InputError: naming the layer.
        """
        shape = (4, *self.spec.shape)
        x_BCHW = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        x_BCHW = x_BCHW.to(self.mean_C11.device)
        logits_BN, features = self.logits_and_features(x_BCHW)
        try:
            cut_BN = self.logits_from(features[layer], layer)
            same = torch.allclose(cut_BN, logits_BN, rtol=1e-3, atol=1e-4)
        except Exception:  # shapes differ if a shortcut still carries the black images
            same = False
        if not same:
            later = layer != PENULTIMATE
            other = f"name a later one, such as {PENULTIMATE}" if later else "name another one"
            raise InputError(
                f"classifier.feature_layers={layer}: the logits do not come from this layer alone "
                f"(a shortcut leads around it, or it is used more than once); {other}"
            )

    def check_gradient(self) -> None:
        """Check that a gradient reaches the pixels; every inversion method needs one.

        Raises:
            InputError: naming the network.
        """
        x_BCHW = random_images(self.spec, PROBED).to(self.mean_C11.device)
        if why := gradient_fault(self, x_BCHW):
            raise InputError(
                f"classifier: no gradient reaches the pixels through {self.name} ({why}), and "
                "every inversion method needs one; remove rounding, casts to integers, detach() "
                "and no_grad() from its forward method, or set classifier=black_box, which needs "
                "no gradient of the network"
            )

    def _tap(self, name: str) -> RemovableHandle:
        module = self.find_layer(name)
        if name == PENULTIMATE:
            return module.register_forward_pre_hook(partial(self.recorder.head_input, name))
        return module.register_forward_hook(partial(self.recorder.output, name))

    def find_layer(self, name: str) -> nn.Module:
        """Return the module of a feature layer; for `penultimate`, the layer whose input it is."""
        if name == LOGITS and name not in dict(self.network.named_modules()):
            return self
        return find_layer(self.network, name, self.name)

    def _probe(self, output: str | None, output_kind: str) -> None:
        """Find the logits on random images, and determine whether contiguous memory is needed.

        Raises:
            InputError: if the network raises anything, or the logits are not found.
        """
        shape = self.spec.shape
        x_BCHW = self._normalised(random_images(self.spec, PROBED).to(self.mean_C11.device))
        try:
            with torch.enable_grad():  # the recorded operations show whether it ends in a sigmoid
                returned = self.network(x_BCHW.requires_grad_() * 1)
        except Exception as error:
            raise explain_failure(self.name, shape, error) from error
        self.output = find_output(
            returned, self.name, PROBED, self.spec.num_classes, output, output_kind
        )
        self.contiguous = not takes_channels_last(self.network, x_BCHW.detach()[:2])

    @torch.no_grad()
    def _check_features(self) -> None:
        shape = self.spec.shape
        black_2CHW = torch.zeros(2, *shape, device=self.mean_C11.device)
        try:
            logits_BN, features = self.logits_and_features(black_2CHW)
        except InputError:
            raise
        except KeyError as error:
            raise InputError(
                f"classifier.feature_layers: layer {error} is not used in the network's forward "
                "pass"
            ) from error
        except Exception as error:
            raise explain_failure(self.name, shape, error) from error
        self.feature_dims = {name: f_BD.shape[1] for name, f_BD in features.items()}
        if logits_BN.shape != (2, self.spec.num_classes):
            raise InputError(
                f"classifier.num_classes={self.spec.num_classes}: the network returns outputs of "
                f"shape {list(logits_BN.shape[1:])}; it must return one logit per class"
            )


def _labels(classifier: Classifier, logits_BN: Tensor) -> Tensor:
    """Return the predicted labels as zeros and ones, [B, N]."""
    if classifier.multi_label:
        return (logits_BN > 0).float()
    return F.one_hot(logits_BN.argmax(dim=1), logits_BN.shape[1]).float()
