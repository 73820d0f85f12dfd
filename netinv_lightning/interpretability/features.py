"""What a classifier makes of images of one origin: the features that are studied.

Shape suffixes: n images, B batch, D features, M values of maps, N classes, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from netinv_lightning.classifiers.frozen import FrozenClassifier


@dataclass(frozen=True)
class FeatureSet:
    """Images of one origin, as a classifier sees them; all tensors on the CPU.

    Attributes:
        images_nCHW: In [0, 1].
        features_nD: The feature layer's output, flattened.
        logits_nN: The classifier's.
        labels_n: The class that each image was made to be, or is.
        generator_n: Which generator made it; None for real images, or where it is not known.
    """

    images_nCHW: Tensor
    features_nD: Tensor
    logits_nN: Tensor
    labels_n: Tensor
    generator_n: Tensor | None = None

    @property
    def predicted_n(self) -> Tensor:
        """The classifier's own decisions."""
        return self.logits_nN.argmax(dim=1)

    def __len__(self) -> int:
        return len(self.labels_n)

    def where(self, chosen_n: Tensor) -> FeatureSet:
        """Those at the given indices, or where a mask is true."""
        generator_n = None if self.generator_n is None else self.generator_n[chosen_n]
        return FeatureSet(
            self.images_nCHW[chosen_n],
            self.features_nD[chosen_n],
            self.logits_nN[chosen_n],
            self.labels_n[chosen_n],
            generator_n,
        )

    def halves(self, seed: int) -> tuple[FeatureSet, FeatureSet]:
        """A half to fit on and a half to judge by, at random."""
        order_n = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.where(order_n[::2]), self.where(order_n[1::2])


@torch.no_grad()
def look(
    classifier: FrozenClassifier,
    layer: str,
    images_nCHW: Tensor,
    labels_n: Tensor,
    generator_n: Tensor | None = None,
    batch: int = 500,
) -> FeatureSet:
    """Passes images through the classifier and keeps the features of one of its feature layers."""
    features, logits = [], []
    for x_BCHW in images_nCHW.split(batch):
        logits_BN, of_layers = classifier.logits_and_features(x_BCHW.to(classifier.mean_C11.device))
        features.append(of_layers[layer].float().cpu())
        logits.append(logits_BN.float().cpu())
    return FeatureSet(
        images_nCHW.cpu(), torch.cat(features), torch.cat(logits), labels_n.cpu(), generator_n
    )


def head_of(
    classifier: FrozenClassifier, layer: str, batch: int = 5000
) -> Callable[[Tensor], Tensor]:
    """The rest of the network: from features [n, D] of a layer to logits [n, N], both on the CPU."""

    def head(features_nD: Tensor) -> Tensor:
        return torch.cat(
            [
                classifier.logits_from(f_BD.to(classifier.mean_C11), layer).float().cpu()
                for f_BD in features_nD.split(batch)
            ]
        )

    return head


def map_layers(classifier: FrozenClassifier) -> dict[str, torch.Size]:
    """The network's layers that give maps of 2 x 2 or more, in the order in which they work, with the shape of a map [C, h, w]."""
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
                    spec.channels,
                    spec.image_size,
                    spec.image_size,
                    device=classifier.mean_C11.device,
                )
            )
    finally:
        for handle in handles:
            handle.remove()
    return found
