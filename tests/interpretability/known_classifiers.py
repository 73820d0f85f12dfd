"""Classifiers with a known boundary, samples and hyperplanes, for tests of boundary and rules.

Shape suffixes: n samples, h hyperplanes, X coordinates, N classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from netinv_lightning.interpretability.boundary import (
    Hyperplanes,
    sample_pairs,
    tangent_hyperplanes,
)
from netinv_lightning.interpretability.rules import RuleSet, learn_rules

Logits = Callable[[Tensor], Tensor]
WEIGHT_NX = torch.tensor([[1.0, 0.5, -0.3], [-0.7, 1.2, 0.1], [0.2, -0.9, 1.1], [-0.4, -0.6, -1.0]])
BIAS_N = torch.tensor([0.3, -0.2, 0.1, 0.0])


def linear(x_nX: Tensor) -> Tensor:
    """Return the logits of four classes in 3-D."""
    return x_nX @ WEIGHT_NX.T + BIAS_N


def stripes(x_nX: Tensor) -> Tensor:
    """Return logits of class 0 for x < -1, class 2 for x > 1, and class 1 between them."""
    x_n = x_nX[:, 0]
    return torch.stack([-2 * x_n, torch.full_like(x_n, 2.0), 2 * x_n], dim=1)


def exclusive_or(x_nX: Tensor) -> Tensor:
    """Return logits of class 1 for coordinates of the same sign, and class 0 otherwise."""
    product_n = x_nX[:, 0] * x_nX[:, 1]
    return torch.stack([-product_n, product_n], dim=1)


def normal_samples(n: int, dim: int, seed: int) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def explained(
    logits_of: Logits, dim: int, n: int = 1000, seed: int = 0, **limits: float
) -> tuple[RuleSet, Tensor, Tensor]:
    """Return the rules of a planted classifier, the training samples and their classes."""
    x_nX = normal_samples(n, dim, seed)
    class_n = logits_of(x_nX).argmax(dim=1)
    start_n, end_n = sample_pairs(class_n, seed=seed)
    planes = tangent_hyperplanes(logits_of, x_nX[start_n], x_nX[end_n])
    return learn_rules(x_nX, class_n, planes, **limits), x_nX, class_n  # type: ignore[arg-type]


def planes_across(*bounds: tuple[float, int, int]) -> Hyperplanes:
    """Return hyperplanes on a line from triples (bound, class above it, class below it)."""
    offset_h = torch.tensor([bound for bound, _, _ in bounds])
    inside_h, outside_h = (torch.tensor([bound[side] for bound in bounds]) for side in (1, 2))
    return Hyperplanes(torch.ones(len(bounds), 1), offset_h, inside_h, outside_h, offset_h[:, None])
