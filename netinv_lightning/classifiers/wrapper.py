"""Classifier wrapper: takes images in [0, 1], normalises them, returns logits.

Signals [B, C, L] and tables [B, C] are scaled to [0, 1] too, from the limits in `DataSpec`. Mean
and standard deviation are in the same units; they have as many axes as a single input.

Shape suffixes: B batch, C channels, H height, W width, N classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.outputs import Output
from netinv_lightning.classifiers.probing import unwrapped
from netinv_lightning.data.specs import DEVIATIONS, DataSpec


class Classifier(nn.Module):
    """A network that normalises its input images and returns logits.

    Args:
        network: Takes normalised images [B, C, H, W]; returns logits [B, N], or a structure in
            which the output of `like` finds them.
        spec: Properties of the training data.
        like: A classifier with the same kind of network, from which the settings of the output and
            of the memory format are copied.
    """

    access = "weights"
    """Access that a method has: `weights` (layers and gradients too), `scores` only, or `labels`
    only."""
    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, network: nn.Module, spec: DataSpec, like: Classifier | None = None) -> None:
        super().__init__()
        self.network, self.spec = unwrapped(network), spec
        self.output: Output = Output() if like is None else like.output
        self.contiguous: bool = like is not None and like.contiguous
        self.normalisation_source: str = "" if like is None else like.normalisation_source
        # Not in the state dict: a checkpoint contains the network's own weights only; mean and std
        # are in the model card.
        dtype = next(
            (weight.dtype for weight in network.parameters() if weight.is_floating_point()),
            torch.float32,
        )
        per_channel = (-1, *[1] * len(spec.sides))
        self.register_buffer(
            "mean_C11",
            torch.tensor(spec.unit_mean, dtype=dtype).view(per_channel),
            persistent=False,
        )
        self.register_buffer(
            "std_C11", torch.tensor(spec.unit_std, dtype=dtype).view(per_channel), persistent=False
        )

    @property
    def name(self) -> str:
        """The class name of the network, for messages."""
        return type(self.network).__name__

    @property
    def multi_label(self) -> bool:
        """Whether classification is multi-label: each label has its own logit and sigmoid."""
        return self.output.multi_label

    @property
    def normalises(self) -> bool:
        """Whether mean and standard deviation are known; if not, images are not normalised.

        Signals and tables are assumed to be standardised if neither is given.
        """
        return self.spec.modality != "images" or (set(self.spec.mean), set(self.spec.std)) != (
            {0.0},
            {1.0},
        )

    def describe_normalisation(self) -> str:
        """Return one line with the mean and standard deviation in use, and their source."""
        if not self.normalises:
            return (
                "classifier: images are not normalised; if the training images were, set "
                "classifier.mean and classifier.std"
            )
        mean, std = (
            [round(value, 4) for value in values] for values in (self.spec.mean, self.spec.std)
        )
        if self.spec.modality != "images":
            within = "their bounds" if self.spec.bounds else f"the mean +- {DEVIATIONS} std"
            unknown = self.normalisation_source in ("", "none")
            source = (
                "are unknown, so the inputs are assumed to be standardised"
                if unknown
                else f"come from {self.normalisation_source}"
            )
            return (
                f"classifier: {self.spec.modality} are generated within {within}; mean and std "
                f"{source}"
            )
        return (
            f"classifier: images are normalised with mean {mean} and std {std} "
            f"from {self.normalisation_source}"
        )

    def record(self) -> dict[str, Any]:
        """Return what is assumed about the network, for the record of a run."""
        return {
            "network": self.name,
            "output": self.output.name,
            "output_kind": self.output.kind,
            **({"multi_label": True} if self.multi_label else {}),
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
        """Convert the module; weights of a network that needs contiguous memory stay contiguous."""
        super()._apply(fn, recurse)
        if self.contiguous:
            for tensor in (*self.network.parameters(), *self.network.buffers()):
                # contiguous() would not change the strides of a tensor with a single channel.
                tensor.data = tensor.data.flatten().view(tensor.shape)
        return self
