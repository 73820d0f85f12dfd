"""Linear classifiers of a few pixels, and what detectors are fitted on."""

from __future__ import annotations

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import DataSpec

TINY = DataSpec("tiny", 3, 1, 2, (0.0,), (1.0,), ("a", "b", "c"))


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_classifier(
    weight_NP: Tensor | None = None, bias_N: Tensor | None = None
) -> FrozenClassifier:
    """Classifier with logits linear in 2 x 2 pixels, which are also its penultimate features."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        network[1].weight.copy_(
            torch.randn(3, 4, generator=source(1)) if weight_NP is None else weight_NP
        )
        network[1].bias.copy_(torch.tensor([0.3, -0.2, 0.1]) if bias_N is None else bias_N)
    return FrozenClassifier(network, TINY)


def auroc(inside_n: Tensor, outside_n: Tensor) -> float:
    return float(
        roc_auc_score([0] * len(inside_n) + [1] * len(outside_n), torch.cat([inside_n, outside_n]))
    )
