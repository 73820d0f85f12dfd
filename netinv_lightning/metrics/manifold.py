"""Precision, recall, density and coverage of generated images with respect to real images.

Precision and recall: Kynkaanniemi et al. (2019, arXiv 1904.06991); density and coverage: Naeem et
al. (2020, arXiv 2002.09797). The neighbourhood of an image is the ball around its features up to
its k-th nearest neighbour of the same kind.

Shape suffixes: n generated images, m real images, B batch of either, D features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

NEIGHBOURS = 5
CHUNK = 1000


class Manifold(Metric):
    """Compare generated with real images in the features of an independent network.

    `compute` returns `precision` (share of generated images in the neighbourhood of a real one),
    `recall` (share of real images in the neighbourhood of a generated one), `density` (mean number
    of real images' neighbourhoods that contain a generated image, over k; may exceed 1) and
    `coverage` (share of real images whose neighbourhood contains a generated one). If both kinds
    come from one distribution, coverage is about 1 - 2^-k, and the others are about 1.

    Args:
        real_mD: Features of real images.
        k: Number of neighbours, without the image itself.

    Raises:
        ValueError: if there are k or fewer images of either kind.
    """

    full_state_update = False
    real_mD: Tensor
    real_radius_m: Tensor
    features: list[Tensor]

    def __init__(self, real_mD: Tensor, k: int = NEIGHBOURS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = k
        self.register_buffer("real_mD", real_mD.double(), persistent=False)
        self.register_buffer("real_radius_m", _squared_radius(self.real_mD, k), persistent=False)
        self.add_state("features", [], dist_reduce_fx="cat")

    def update(self, f_BD: Tensor) -> None:
        """Add features of generated images."""
        self.features.append(f_BD)

    def compute(self) -> dict[str, Tensor]:
        f_nD = dim_zero_cat(self.features).double()
        radius_n = _squared_radius(f_nD, self.k)
        n, m = len(f_nD), len(self.real_mD)
        balls_n = torch.zeros(n, dtype=torch.long, device=f_nD.device)
        recalled, covered = f_nD.new_zeros(()), f_nD.new_zeros(())
        for part, squared_Bn in _squared_distances(self.real_mD, f_nD):
            within_Bn = squared_Bn < self.real_radius_m[part, None]
            balls_n += within_Bn.sum(dim=0)
            covered += within_Bn.any(dim=1).sum()
            recalled += (squared_Bn < radius_n).any(dim=1).sum()
        return {
            "precision": (balls_n > 0).double().mean(),
            "recall": recalled / m,
            "density": balls_n.double().mean() / self.k,
            "coverage": covered / m,
        }


def _squared_distances(a_nD: Tensor, b_mD: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of `a` with the squared Euclidean distances of that part to all of `b`."""
    square_m = b_mD.square().sum(dim=1)
    for first in range(0, len(a_nD), CHUNK):
        part = slice(first, first + CHUNK)
        a_BD = a_nD[part]
        yield (
            part,
            torch.addmm(square_m[None], a_BD, b_mD.T, alpha=-2).add_(
                a_BD.square().sum(dim=1, keepdim=True)
            ),
        )


def _squared_radius(f_nD: Tensor, k: int) -> Tensor:
    """Return the squared distance of each sample to its k-th nearest other, [n]."""
    if len(f_nD) <= k:
        raise ValueError(f"k={k}: needs more than {k} images, but there are {len(f_nD)}")
    radii = []
    for part, squared_Bn in _squared_distances(f_nD, f_nD):
        squared_Bn.diagonal(part.start).fill_(float("inf"))
        radii.append(squared_Bn.topk(k, dim=1, largest=False).values[:, -1])
    return torch.cat(radii)
