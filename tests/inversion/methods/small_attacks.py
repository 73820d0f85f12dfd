"""Small classifiers and KKT attacks on them."""

from __future__ import annotations

import torch
from torch import nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.networks import MLP
from netinv_lightning.data.specs import DataSpec

SPEC = DataSpec("made_up", 3, 1, 4, (0.2,), (0.5,), ("a", "b", "c"))


def frozen(network: nn.Module, spec: DataSpec = SPEC) -> FrozenClassifier:
    return FrozenClassifier(network, spec)


def small_mlp(spec: DataSpec = SPEC, slope: float = 0.0, seed: int = 0) -> MLP:
    torch.manual_seed(seed)
    return MLP(
        spec.num_classes,
        spec.channels,
        spec.image_size,
        widths=(12, 7),
        dropout=0.0,
        slope=slope,
        batch_norm=False,
    )
