"""Diversity of a set of images: Vendi score, near-identical images, cosines of features.

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
"""Largest root mean square difference of the pixels of two near-identical images. In MNIST,
FashionMNIST, SVHN and CIFAR-10, at most 2 in 10,000 test images are that close to another one of
their class; the median distance is 0.11 to 0.19.
"""


class Vendi(Metric):
    """Vendi score with the cosine kernel: effective number of different images.

    Friedman and Dieng (2023, arXiv 2210.02410). The exponential of the entropy of the eigenvalues
    of K / n, where K_ij is the cosine of the features of images i and j: 1 if all are alike, k for
    k equal groups that are orthogonal to each other. K / n = U U' / n has the same non-zero
    eigenvalues as the D x D matrix U' U / n, so only a sum of outer products is stored. The score
    is at most D + 1.

    `compute` returns `pooled`, over all images, and `class_mean`, the mean over the classes with
    images.

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
        # A zero vector has no direction. An extra axis makes such images equal, and orthogonal
        # to all others.
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
    """Return exp of the entropy of the eigenvalues of a matrix with trace 1."""
    shares_D = torch.linalg.eigvalsh(share_DD).clamp_min(0)
    return torch.special.entr(shares_D).sum().exp()


class Duplicates(Metric):
    """Share of images with a near-identical other image of the same class in the set.

    Two images are near-identical if the root mean square difference of their pixels, as 8-bit
    images in units of the pixel range, is at most `threshold`. All pairs of a class are compared.

    Args:
        threshold: In units of the pixel range [0, 1].
        chunk: Number of images compared with their class at a time.
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
        """Count the images of a class with a near-identical other image."""
        x_mP = to_unit_range(levels_mP) - 0.5  # centred, because squares cancel below
        square_m, largest = x_mP.square().sum(dim=1), self.threshold**2 * x_mP.shape[1]
        near = torch.zeros((), dtype=torch.long, device=x_mP.device)
        for first in range(0, len(x_mP), self.chunk):
            part = slice(first, first + self.chunk)
            squared_Bm = square_m[part, None] + square_m - 2 * x_mP[part] @ x_mP.T
            squared_Bm.diagonal(first).fill_(float("inf"))  # exclude the image itself
            # The tolerance keeps rounding from breaking an equality.
            near += (squared_Bm.amin(dim=1) <= largest * (1 + 1e-5)).sum()
        return near


class ClassCosine(Metric):
    """Mean cosine between features of different images, within a class and between classes.

    `compute` returns `intra`, over pairs of the same class, and `inter`, over pairs of different
    classes. Both are exact over all pairs, from one sum per class: sum_{i != j} cos = |sum_i f_i|^2
    - n for unit features. For features that the objective optimises, they are the objective itself;
    compare them with features of another classifier.

    Args:
        num_classes: N.
        dim: D.
    """

    full_state_update = False
    sum_ND: Tensor
    count_N: Tensor
    square_N: Tensor

    def __init__(self, num_classes: int, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state(
            "sum_ND", torch.zeros(num_classes, dim, dtype=torch.float64), dist_reduce_fx="sum"
        )
        self.add_state(
            "count_N", torch.zeros(num_classes, dtype=torch.float64), dist_reduce_fx="sum"
        )
        self.add_state(
            "square_N", torch.zeros(num_classes, dtype=torch.float64), dist_reduce_fx="sum"
        )

    def update(self, f_BD: Tensor, label_B: Tensor) -> None:
        unit_BD = F.normalize(f_BD.double(), dim=1)
        self.sum_ND.index_add_(0, label_B, unit_BD)
        # 1 per image, or 0 for a zero feature.
        self.square_N.index_add_(0, label_B, unit_BD.square().sum(dim=1))
        self.count_N += torch.bincount(label_B, minlength=len(self.count_N)).double()

    def compute(self) -> dict[str, Tensor]:
        within_N = self.sum_ND.square().sum(dim=1)
        intra = (within_N - self.square_N).sum() / (self.count_N * (self.count_N - 1)).sum()
        between = self.sum_ND.sum(dim=0).square().sum() - within_N.sum()
        return {
            "intra": intra,
            "inter": between / (self.count_N.sum() ** 2 - self.count_N.square().sum()),
        }
