"""The rest of a network after a feature layer, and the layers that compute maps.

Shape suffixes: n images, B batch, D features, M values of maps, N classes, C channels, H height, W
width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from netinv_lightning.classifiers.frozen import FrozenClassifier


def head_of(
    classifier: FrozenClassifier, layer: str, batch: int = 5000
) -> Callable[[Tensor], Tensor]:
    """Return the rest of the network after a layer: features [n, D] to logits [n, N] (CPU)."""

    def head(features_nD: Tensor) -> Tensor:
        return torch.cat(
            [
                classifier.logits_from(f_BD.to(classifier.mean_C11), layer).float().cpu()
                for f_BD in features_nD.split(batch)
            ]
        )

    return head


def map_layers(classifier: FrozenClassifier) -> dict[str, torch.Size]:
    """Return the layers with maps of 2 x 2 or more, in order of execution, and the map shapes."""
    found: dict[str, torch.Size] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.dim() == 4 and min(output.shape[2:]) >= 2:
                found[name] = output.shape[1:]

        return hook

    handles = [
        module.register_forward_hook(note(name))
        for name, module in classifier.network.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            spec = classifier.spec
            classifier(
                torch.zeros(
                    1,
                    *spec.shape,
                    device=classifier.mean_C11.device,
                )
            )
    finally:
        for handle in handles:
            handle.remove()
    return found
