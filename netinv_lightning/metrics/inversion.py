"""How well images are classified as they were conditioned, and how alike they are.

Shape suffixes: B batch, N classes, D features.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric


class InversionAccuracy(Metric):
    """Share of images whose predicted label equals the conditioning label (S2 section 5.1; A3-1).

    `compute` gives `accuracy`, `confidence` (mean of the largest probability), `margin` (mean of the largest less the
    second largest probability), `kl` (mean D_KL(P||Q) to the conditioning, in nats), and `confusion_NN`, whose row is
    the conditioning label and column the predicted one.

    Args:
        num_classes: N.
    """

    full_state_update = False
    confusion_NN: Tensor
    confidence_sum: Tensor
    margin_sum: Tensor
    kl_sum: Tensor

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.add_state(
            "confusion_NN",
            torch.zeros(num_classes, num_classes, dtype=torch.long),
            dist_reduce_fx="sum",
        )
        self.add_state("confidence_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("margin_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("kl_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits_BN: Tensor, label_B: Tensor, target_BN: Tensor) -> None:
        """Adds a batch: the classifier's logits, the conditioning labels, the conditioning distributions P."""
        log_q_BN = logits_BN.double().log_softmax(dim=1)
        cells_B = label_B * self.num_classes + logits_BN.argmax(dim=1)
        self.confusion_NN += torch.bincount(cells_B, minlength=self.num_classes**2).view(
            self.num_classes, -1
        )
        largest_B, second_B = log_q_BN.topk(2, dim=1).values.exp().unbind(dim=1)
        self.confidence_sum += largest_B.sum()
        self.margin_sum += (largest_B - second_B).sum()
        self.kl_sum += F.kl_div(log_q_BN, target_BN.double(), reduction="sum")

    def compute(self) -> dict[str, Tensor]:
        n = self.confusion_NN.sum()
        return {
            "accuracy": self.confusion_NN.diagonal().sum().double() / n,
            "confidence": self.confidence_sum / n,
            "margin": self.margin_sum / n,
            "kl": self.kl_sum / n,
            "confusion_NN": self.confusion_NN,
        }


class ClassCosine(Metric):
    """Mean cosine between features of different images, `intra`: of the same class, `inter`: of different classes.

    Exact over all pairs from one sum a class: sum_{i != j} cos = |sum_i f_i|^2 - n for unit features. In features that
    the objective optimised these are the objective itself, so read them beside those of another classifier.

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
        self.square_N.index_add_(
            0, label_B, unit_BD.square().sum(dim=1)
        )  # 1 an image, or 0 for a feature that is zero
        self.count_N += torch.bincount(label_B, minlength=len(self.count_N)).double()

    def compute(self) -> dict[str, Tensor]:
        within_N = self.sum_ND.square().sum(dim=1)
        intra = (within_N - self.square_N).sum() / (self.count_N * (self.count_N - 1)).sum()
        between = self.sum_ND.sum(dim=0).square().sum() - within_N.sum()
        return {
            "intra": intra,
            "inter": between / (self.count_N.sum() ** 2 - self.count_N.square().sum()),
        }
