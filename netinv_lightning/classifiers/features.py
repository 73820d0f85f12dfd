"""Logits and features of images, extracted in batches.

Shape suffixes: n images, B batch, C channels, H height, W width, N classes, D features,
F values of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.penultimate import head_features, head_layer
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.config.layer_names import PENULTIMATE
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.errors import InputError
from netinv_lightning.training.seeds import random_order

BATCH = 100  # fastest on a CPU: the activations of larger batches do not fit into its caches
FEATURES = ""
"""Key of the features among the recorded layers."""


@dataclass(frozen=True)
class FeatureSet:
    """Images with the logits and features that a classifier computes for them.

    Attributes:
        images_nCHW: In [0, 1].
        logits_nN: The classifier's logits.
        features_nD: The flattened features of one layer, by default the penultimate one; empty if
            the network has none.
        layers: The output of further layers, [n, F]: maps and tokens averaged over positions.
        labels_n: The class that each image belongs to or was generated for; empty if unknown.
        generator_n: The number of the generator that made each image; None for real images, or if
            unknown.
        targets_nN: The conditioning distribution of each generated image; None if unknown.
    """

    images_nCHW: Tensor
    logits_nN: Tensor
    features_nD: Tensor
    layers: dict[str, Tensor] = field(default_factory=dict)
    labels_n: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    generator_n: Tensor | None = None
    targets_nN: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images_nCHW)

    @property
    def has_features(self) -> bool:
        return self.features_nD.numel() > 0

    @property
    def predicted_n(self) -> Tensor:
        """The most probable class of each image."""
        return self.logits_nN.argmax(dim=1)

    @property
    def probabilities_nN(self) -> Tensor:
        return self.logits_nN.softmax(dim=1)

    def where(self, chosen_n: Tensor) -> FeatureSet:
        """Return the images at the given indices, or those where a mask is true."""

        def of(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[chosen_n]

        return FeatureSet(
            self.images_nCHW[chosen_n],
            self.logits_nN[chosen_n],
            self.features_nD[chosen_n],
            {name: values_nF[chosen_n] for name, values_nF in self.layers.items()},
            self.labels_n[chosen_n] if len(self.labels_n) else self.labels_n,
            of(self.generator_n),
            of(self.targets_nN),
        )

    def halves(self, seed: int) -> tuple[FeatureSet, FeatureSet]:
        """Split at random into one half to fit on and one half to evaluate on."""
        order_n = random_order(len(self), seed)
        return self.where(order_n[::2]), self.where(order_n[1::2])


@torch.no_grad()
def extract_features(
    classifier: FrozenClassifier,
    images_nCHW: Tensor,
    *,
    layer: str = PENULTIMATE,
    pooled_layers: Sequence[str] | None = (),
    batch_size: int = BATCH,
    channels_last: bool = True,
    device: torch.device | str = "cpu",
) -> FeatureSet:
    """Compute logits and features of all images; each image passes through the classifier once.

    Args:
        classifier: On any device.
        images_nCHW: In [0, 1].
        layer: The module whose flattened output gives the features; `penultimate` for the input of
            the last fully connected layer.
        pooled_layers: Further modules whose outputs are recorded, averaged over positions; None for
            all.
        batch_size: Images per forward pass.
        channels_last: Convert the images to the memory order in which convolutions are fastest.
        device: Where the results are stored.

    Raises:
        InputError: if the images do not have the classifier's shape or range, or the layer does not
            exist.
    """
    check_images(classifier, images_nCHW)
    logits: list[Tensor] = []
    features: list[Tensor] = []
    pooled: dict[str, list[Tensor]] = {}
    with _recorded(classifier, layer, pooled_layers) as recorded:
        for x_BCHW in batches(classifier, images_nCHW, batch_size, channels_last):
            recorded.clear()
            logits.append(classifier(x_BCHW).float().to(device))
            for name, values_BF in recorded.items():
                of_layer = features if name == FEATURES else pooled.setdefault(name, [])
                of_layer.append(values_BF.float().to(device))
    logits_nN = torch.cat(logits)
    return FeatureSet(
        images_nCHW.to(device),
        logits_nN,
        torch.cat(features) if features else logits_nN[:, :0],
        {name: torch.cat(values) for name, values in pooled.items()},
    )


@torch.no_grad()
def extract_logits(classifier: Classifier, images_nCHW: Tensor, batch_size: int = BATCH) -> Tensor:
    """Return the logits [n, N] of images, uint8 or in [0, 1], on the CPU."""
    device = classifier.mean_C11.device
    parts = [
        classifier(to_unit_range(x_BCHW.to(device))).float().cpu()
        for x_BCHW in images_nCHW.split(batch_size)
    ]
    return torch.cat(parts)


def batches(
    classifier: FrozenClassifier,
    images_nCHW: Tensor,
    batch_size: int = BATCH,
    channels_last: bool = True,
) -> Iterator[Tensor]:
    """Yield batches of the images on the classifier's device, by default in channels_last order."""
    are_images = images_nCHW.dim() == 4
    memory_format = torch.channels_last if channels_last and are_images else torch.preserve_format
    for x_BCHW in images_nCHW.split(batch_size):
        yield x_BCHW.to(classifier.mean_C11.device, memory_format=memory_format)


def check_images(classifier: FrozenClassifier, images_nCHW: Tensor) -> None:
    """Check type, shape and range of images for this classifier.

    Raises:
        InputError: if one of them is wrong.
    """
    if not isinstance(images_nCHW, Tensor):
        raise InputError(
            f"images: must be a tensor, not a {type(images_nCHW).__name__}; "
            "convert arrays with torch.from_numpy(images)"
        )
    if images_nCHW.dtype == torch.uint8:
        raise InputError(
            "images: are uint8; must be floating-point in [0, 1]: use images.float() / 255"
        )
    spec = classifier.spec
    shape = spec.shape
    if (
        images_nCHW.shape[1:] != shape
        or not images_nCHW.is_floating_point()
        or not len(images_nCHW)
    ):
        raise InputError(
            f"images: {list(images_nCHW.shape)} of {images_nCHW.dtype}; must be one or more "
            "floating-point images of the classifier's shape, "
            f"[n, {', '.join(map(str, shape))}]; pass a single image as image[None]"
        )
    if not bool(((images_nCHW >= 0) & (images_nCHW <= 1)).all()):  # NaN fails both comparisons
        raise InputError("images: some pixels are NaN or outside of [0, 1]; scale the images")


@contextmanager
def _recorded(
    classifier: FrozenClassifier, layer: str, pooled_layers: Sequence[str] | None
) -> Iterator[dict[str, Tensor]]:
    """Record the features under `FEATURES` and the pooled layers under their names."""
    recorded: dict[str, Tensor] = {}

    def record_pooled(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.dim() >= 2:
                recorded[name] = _pooled(output)

        return hook

    def record_output(module: nn.Module, inputs: object, output: Tensor) -> None:
        recorded[FEATURES] = output.flatten(1).clone()

    def record_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        recorded[FEATURES] = head_features(module, inputs[0]).flatten(1).clone()

    handles = [
        module.register_forward_hook(record_pooled(name))
        for name, module in classifier.network.named_modules()
        if name and (pooled_layers is None or name in pooled_layers)
    ]
    if layer != PENULTIMATE:
        handles.append(classifier.find_layer(layer).register_forward_hook(record_output))
    elif (head := head_layer(classifier.network)) is not None:
        handles.append(head.register_forward_pre_hook(record_input))
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def _pooled(output: Tensor) -> Tensor:
    """Return the mean over the positions of maps [B, F, h, w] or tokens [B, T, F]: [B, F]."""
    if output.dim() == 4:
        return output.mean(dim=(2, 3))
    return (
        output.mean(dim=1) if output.dim() == 3 else output.flatten(1).clone()
    )  # the next layer may work in place
