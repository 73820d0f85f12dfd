"""Accuracy of inverted images with respect to their conditioning.

Shape suffixes: B batch, N classes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric


class InversionAccuracy(Metric):
    """Share of images whose predicted label equals the conditioning label.

    Suhail, Tang and Sethi (2024, arXiv 2411.17777, section 5.1). `compute` returns `accuracy`,
    `confidence` (mean largest probability), `margin` (mean difference of the largest and the second
    largest probability), `kl` (mean D_KL(P||Q) to the conditioning, in nats), `confusion_NN` (rows:
    conditioning label, columns: predicted label), and `top5` (share whose conditioning label is
    among the five most probable).

    Args:
        num_classes: N.
    """

    full_state_update = False
    confusion_NN: Tensor
    confidence_sum: Tensor
    margin_sum: Tensor
    kl_sum: Tensor
    top5_sum: Tensor

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
        self.add_state("top5_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("kl_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits_BN: Tensor, label_B: Tensor, target_BN: Tensor) -> None:
        """Add a batch: logits, conditioning labels and conditioning distributions P."""
        log_q_BN = logits_BN.double().log_softmax(dim=1)
        cells_B = label_B * self.num_classes + logits_BN.argmax(dim=1)
        self.confusion_NN += torch.bincount(cells_B, minlength=self.num_classes**2).view(
            self.num_classes, -1
        )
        top_Bk = logits_BN.topk(min(5, self.num_classes), dim=1).indices
        self.top5_sum += (top_Bk == label_B[:, None]).any(dim=1).sum()
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
            "top5": self.top5_sum / n,
            "confusion_NN": self.confusion_NN,
        }


class SetAccuracy(InversionAccuracy):
    """`InversionAccuracy` for multi-label networks, conditioned on sets of labels.

    `accuracy` is the share of images to which the network assigns exactly the requested set. In
    `confusion_NN`, an image with a wrong set is counted in the column of its most probable label,
    excluding its first requested label. `confidence` is the mean over labels of max(p, 1 - p),
    `margin` the mean of the smallest |p - (1 - p)| of an image, `kl` the sum of the binary
    cross-entropies of an image in nats, and `label_accuracy` the share of correct single labels.
    """

    right_sum: Tensor

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(num_classes, **kwargs)
        self.add_state("right_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits_BN: Tensor, label_B: Tensor, target_BN: Tensor) -> None:
        """Add a batch: logits, first labels of the sets, and the sets (0 or 1)."""
        logits_BN = logits_BN.double()
        right_BN = (logits_BN > 0) == (target_BN > 0.5)
        other_B = logits_BN.scatter(1, label_B[:, None], -torch.inf).argmax(dim=1)
        predicted_B = torch.where(right_BN.all(dim=1), label_B, other_B)
        self.confusion_NN += torch.bincount(
            label_B * self.num_classes + predicted_B, minlength=self.num_classes**2
        ).view(self.num_classes, -1)
        p_BN = logits_BN.sigmoid()
        self.right_sum += right_BN.double().mean(dim=1).sum()
        self.confidence_sum += p_BN.maximum(1 - p_BN).mean(dim=1).sum()
        self.margin_sum += (2 * p_BN - 1).abs().amin(dim=1).sum()
        self.kl_sum += F.binary_cross_entropy_with_logits(
            logits_BN, target_BN.double(), reduction="sum"
        )
        top_Bk = logits_BN.topk(min(5, self.num_classes), dim=1).indices
        self.top5_sum += (top_Bk == label_B[:, None]).any(dim=1).sum()

    def compute(self) -> dict[str, Tensor]:
        computed = super().compute()
        return {**computed, "label_accuracy": self.right_sum / self.confusion_NN.sum()}
