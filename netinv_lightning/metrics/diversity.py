"""How many different images there are: Vendi score, and the share of images that the set holds more than once.

Shape suffixes: B batch, n images, m images of one class, N classes, D features, P pixel values.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from netinv_lightning.data.pixels import to_uint8, to_unit_range

NEAR_IDENTICAL = 8 / 255
"""Root mean square difference of the pixels up to which two images count as one. Of the test images of MNIST, FashionMNIST,
SVHN and CIFAR-10 at most 2 in 10,000 have another of their class that near; their median distance is 0.11 to 0.19."""


class Vendi(Metric):
    """The Vendi score with the cosine kernel: the effective number of different images (Friedman & Dieng 2023).

    The exponential of the entropy of the eigenvalues of K / n, where K_ij is the cosine of the features of images i and j: 1
    if all are alike, k for k equal groups that are orthogonal to each other. K / n = U U' / n shares its non-zero eigenvalues
    with the D x D matrix U' U / n, so a sum of outer products is all that is kept. It can be at most D + 1.

    `compute` gives `pooled`, of all images, and `class_mean`, the mean over the classes that have images.

    Args:
        num_classes: N.
        dim: D.
    """

    full_state_update = False
    outer_NDD: Tensor
    count_N: Tensor

    def __init__(self, num_classes: int, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state(
            "outer_NDD",
            torch.zeros(num_classes, dim + 1, dim + 1, dtype=torch.float64),
            dist_reduce_fx="sum",
        )
        self.add_state("count_N", torch.zeros(num_classes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, f_BD: Tensor, label_B: Tensor) -> None:
        # A feature vector of zeros has no direction; one more axis makes such images alike, and unlike all others.
        zero_B1 = (f_BD == 0).all(dim=1, keepdim=True).double()
        unit_BD = torch.cat([F.normalize(f_BD.double(), dim=1), zero_B1], dim=1)
        for label in label_B.unique():
            of_class_mD = unit_BD[label_B == label]
            self.outer_NDD[label] += of_class_mD.T @ of_class_mD
        self.count_N += torch.bincount(label_B, minlength=len(self.count_N))

    def compute(self) -> dict[str, Tensor]:
        present_N = self.count_N > 0
        scores = [
            _effective_number(outer_DD / n)
            for outer_DD, n in zip(self.outer_NDD[present_N], self.count_N[present_N], strict=True)
        ]
        return {
            "pooled": _effective_number(self.outer_NDD.sum(dim=0) / self.count_N.sum()),
            "class_mean": torch.stack(scores).mean(),
        }


def _effective_number(share_DD: Tensor) -> Tensor:
    """exp of the entropy of the eigenvalues of a matrix of trace 1."""
    shares_D = torch.linalg.eigvalsh(share_DD).clamp_min(0)
    return torch.special.entr(shares_D).sum().exp()


class Duplicates(Metric):
    """Share of images for which the set holds another one of the same class that is near-identical.

    Near-identical: the root mean square difference of the pixels, as 8-bit images in units of the pixel range, is at most
    `threshold`. All pairs of a class are compared.

    Args:
        threshold: In units of the pixel range [0, 1].
        chunk: Images that are compared with their class at a time.
    """

    full_state_update = False
    images: list[Tensor]
    labels: list[Tensor]

    def __init__(self, threshold: float = NEAR_IDENTICAL, chunk: int = 1000, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.threshold, self.chunk = threshold, chunk
        self.add_state("images", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, x_BCHW: Tensor, label_B: Tensor) -> None:
        self.images.append(to_uint8(x_BCHW.flatten(1)))
        self.labels.append(label_B)

    def compute(self) -> Tensor:
        levels_nP, label_n = dim_zero_cat(self.images), dim_zero_cat(self.labels)
        near = sum(self._near(levels_nP[label_n == label]) for label in label_n.unique())
        return torch.as_tensor(near, device=label_n.device).double() / len(label_n)

    def _near(self, levels_mP: Tensor) -> Tensor:
        """How many of a class have a near-identical other."""
        x_mP = to_unit_range(levels_mP) - 0.5  # small numbers: their squares cancel below
        square_m, furthest = x_mP.square().sum(dim=1), self.threshold**2 * x_mP.shape[1]
        near = torch.zeros((), dtype=torch.long, device=x_mP.device)
        for first in range(0, len(x_mP), self.chunk):
            part = slice(first, first + self.chunk)
            squared_Bm = square_m[part, None] + square_m - 2 * x_mP[part] @ x_mP.T
            squared_Bm.diagonal(first).fill_(float("inf"))  # an image is no other of itself
            near += (
                squared_Bm.amin(dim=1) <= furthest * (1 + 1e-5)
            ).sum()  # rounding is not to undo an equality
        return near
