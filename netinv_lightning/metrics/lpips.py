"""Perceptual distance between images of one class (LPIPS).

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

LPIPS_BACKBONE = "alexnet-owt-7be5be79.pth"
LPIPS_SIDE = 64  # 28 x 28 is too small for the pooling layers of AlexNet


def lpips_missing() -> str | None:
    """Return why LPIPS cannot be computed, or None if it can. Nothing is downloaded."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_BACKBONE
    return (
        None
        if path.is_file()
        else f"LPIPS: the weights of its backbone are missing; copy {LPIPS_BACKBONE} into "
        "torch.hub's folder"
    )


class ClassLPIPS(Metric):
    """Mean LPIPS distance of pairs of images of one class; 0 if all are equal.

    Zhang et al. (2018, arXiv 1801.03924), with AlexNet. Each image of a batch is paired with the
    next one of its class in the batch, so batches should be in random order. Images are resized to
    64 x 64.

    Raises:
        FileNotFoundError: if the weights of the backbone are not in torch.hub's folder.
    """

    full_state_update = False
    distance_sum: Tensor
    pairs: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if reason := lpips_missing():
            raise FileNotFoundError(reason)
        self.distance = LearnedPerceptualImagePatchSimilarity("alex").net
        self.add_state("distance_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("pairs", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, x_BCHW: Tensor, label_B: Tensor) -> None:
        order_B = label_B.argsort(stable=True)
        first, second = order_B[:-1], order_B[1:]
        same = label_B[first] == label_B[second]
        if not same.any():
            return
        large_BCHW = F.interpolate(
            x_BCHW, size=(LPIPS_SIDE, LPIPS_SIDE), mode="bilinear", antialias=True
        ).expand(-1, 3, -1, -1)
        distances = self.distance(large_BCHW[first[same]], large_BCHW[second[same]], normalize=True)
        self.distance_sum += distances.double().sum()
        self.pairs += same.sum()

    def compute(self) -> Tensor:
        return (
            self.distance_sum / self.pairs
            if self.pairs
            else torch.full_like(self.distance_sum, math.nan)
        )
