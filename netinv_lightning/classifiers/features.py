"""What detectors look at, from one pass through the classifier.

Shape suffixes: n images, B batch, C channels, H height, W width, N classes, D features, F values of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.penultimate import head_features, head_layer
from netinv_lightning.errors import InputError

BATCH = 100  # fastest on a CPU: the activations of larger batches leave its caches


@dataclass(frozen=True)
class Seen:
    """Images as a classifier sees them; all tensors on the CPU.

    Attributes:
        images_nCHW: In [0, 1].
        logits_nN: The classifier's.
        features_nD: Its penultimate features (`netinv_lightning.classifiers.penultimate`); None for a network without any.
        layers: The output of each further layer that was asked for, [n, F]: maps and tokens averaged over positions.
    """

    images_nCHW: Tensor
    logits_nN: Tensor
    features_nD: Tensor | None
    layers: dict[str, Tensor]

    @property
    def penultimate_nD(self) -> Tensor:
        """The features, where a detector was fitted that needs them."""
        assert self.features_nD is not None
        return self.features_nD


@torch.no_grad()
def look(
    classifier: FrozenClassifier, images_nCHW: Tensor, layers: Sequence[str] | None = ()
) -> Seen:
    """Passes images through the classifier once.

    Args:
        classifier: On any device.
        images_nCHW: In [0, 1].
        layers: Modules of the network whose outputs are wanted; None for all.

    Raises:
        InputError: if the images are not of the classifier's shape, or not in [0, 1].
    """
    check(classifier, images_nCHW)
    parts: dict[str, list[Tensor]] = {}
    logits = []
    with _recorded(classifier, layers) as recorded:
        for x_BCHW in batches(classifier, images_nCHW):
            recorded.clear()
            logits.append(classifier(x_BCHW).float().cpu())
            for name, values_BF in recorded.items():
                parts.setdefault(name, []).append(values_BF.float().cpu())
    whole = {name: torch.cat(values) for name, values in parts.items()}
    features_nD = whole.pop("", None)
    return Seen(images_nCHW.cpu(), torch.cat(logits), features_nD, whole)


def batches(classifier: FrozenClassifier, images_nCHW: Tensor) -> Iterator[Tensor]:
    """Parts of the images, on the classifier's device and in the memory order in which convolutions are fastest."""
    for x_BCHW in images_nCHW.split(BATCH):
        yield x_BCHW.to(classifier.mean_C11.device, memory_format=torch.channels_last)


def check(classifier: FrozenClassifier, images_nCHW: Tensor) -> None:
    """Refuses what are no images for this classifier.

    Raises:
        InputError: saying what is wrong with them.
    """
    if not isinstance(images_nCHW, Tensor):
        raise InputError(
            f"images: are a {type(images_nCHW).__name__}; must be a tensor, as torch.from_numpy(images) makes of an array"
        )
    if images_nCHW.dtype == torch.uint8:
        raise InputError("images: are uint8; must be in [0, 1]: images.float() / 255")
    spec = classifier.spec
    shape = (spec.channels, spec.image_size, spec.image_size)
    if (
        images_nCHW.shape[1:] != shape
        or not images_nCHW.is_floating_point()
        or not len(images_nCHW)
    ):
        raise InputError(
            f"images: {list(images_nCHW.shape)} of {images_nCHW.dtype}; must be one or more floating-point images of the classifier's "
            f"shape, [n, {', '.join(map(str, shape))}], a single one as image[None]"
        )
    if not bool(((images_nCHW >= 0) & (images_nCHW <= 1)).all()):  # NaN is neither
        raise InputError("images: some pixels are NaN or outside of [0, 1]; scale the images to it")


@contextmanager
def _recorded(
    classifier: FrozenClassifier, layers: Sequence[str] | None
) -> Iterator[dict[str, Tensor]]:
    """While open, each pass leaves the named layers' outputs here, and under the name "" the features."""
    recorded: dict[str, Tensor] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.dim() >= 2:
                recorded[name] = _pooled(output)

        return hook

    def note_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        recorded[""] = head_features(module, inputs[0]).flatten(1).clone()

    handles = [
        module.register_forward_hook(note(name))
        for name, module in classifier.network.named_modules()
        if name and (layers is None or name in layers)
    ]
    head = head_layer(classifier.network)
    if head is not None:
        handles.append(head.register_forward_pre_hook(note_input))
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def _pooled(output: Tensor) -> Tensor:
    """Of maps [B, C, h, w] the mean of each channel, of tokens [B, T, F] the mean token, [B, F]."""
    if output.dim() == 4:
        return output.mean(dim=(2, 3))
    return (
        output.mean(dim=1) if output.dim() == 3 else output.flatten(1).clone()
    )  # the next layer may work in place
