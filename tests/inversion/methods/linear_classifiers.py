"""Linear classifiers logits = W image + b, for which an inversion has a closed form.

Shape suffixes: B batch, N classes, P pixels, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.inversion.base import Inversion
from netinv_lightning.training.seeds import own_randomness

SIDE = 4
CPU = torch.device("cpu")


def linear_classifier(
    classes: int = 3, sides: tuple[int, ...] = (SIDE, SIDE), scale: float = 1.0, **options: str
) -> FrozenClassifier:
    """Return a classifier with normal weights, whose logits of the grey input are 0."""
    names = tuple(str(label) for label in range(classes))
    channels = 1 if sides else 6
    spec = DataSpec(
        "made_up", classes, channels, sides, (0.0,) * channels, (1.0,) * channels, names
    )
    layer = nn.Linear(channels * int(torch.tensor(sides).prod()), classes)
    source = torch.Generator().manual_seed(5)
    with torch.no_grad():
        layer.weight.copy_(scale * torch.randn(layer.weight.shape, generator=source))
        grey = 0.5 if spec.modality == "images" else 0.0  # signals and tables are normalised
        layer.bias.copy_(-grey * layer.weight.sum(dim=1))
    network = nn.Sequential(nn.Flatten(), layer)
    return FrozenClassifier(network, spec, **options)  # type: ignore[arg-type]


def drawn(method: Inversion, labels: list[int], seed: int = 0) -> Tensor:
    """Return images of the requested labels, drawn from a seed."""
    with own_randomness(seed, CPU):
        return method.draw(method.conditioning.of_labels(torch.tensor(labels)))
