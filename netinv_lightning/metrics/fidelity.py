"""How far generated images are from real ones, in features of a network that had no part in generating them.

Features are extracted once and handed over; whoever names such a number names the network too (`fidelity/fid/<network>`):
values of different networks are not comparable with each other, nor with those of the Inception network in papers.

Shape suffixes: B batch, n generated images, m real images, C channels, H height, W width, D features.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.image.fid import (
    FrechetInceptionDistance,
)  # torchmetrics.image names them only beside torch-fidelity
from torchmetrics.image.kid import KernelInceptionDistance
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from torchmetrics.image.mifid import MemorizationInformedFrechetInceptionDistance
from torchmetrics.utilities import dim_zero_cat

from netinv_lightning.training.seeds import own_randomness

KID_SUBSETS, KID_SUBSET_SIZE = 50, 1000
LPIPS_BACKBONE = "alexnet-owt-7be5be79.pth"
LPIPS_SIDE = 64  # AlexNet's poolings leave nothing of 28 x 28


class Extracted(nn.Module):
    """In the place of torchmetrics' Inception network: what comes in are features already."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_features = dim

    def forward(self, f_BD: Tensor) -> Tensor:
        return f_BD


def frechet_distance(real_mD: Tensor, **kwargs: Any) -> FrechetInceptionDistance:
    """Heusel et al. 2017: the squared Frechet distance of two Gaussians with the means and covariances of the features.

    Args:
        real_mD: Features of real images, kept over a reset; over several processes each one's share.
        kwargs: Of torchmetrics' `Metric`.
    """
    metric = FrechetInceptionDistance(
        Extracted(real_mD.shape[1]), reset_real_features=False, **kwargs
    ).to(real_mD.device)
    metric.update(real_mD.double(), real=True)
    return metric


def memorisation_informed_distance(training_mD: Tensor, generated_nD: Tensor) -> float:
    """Bai et al. 2021: the Frechet distance, the larger the nearer the generated images' features are to training images' on average.

    It is divided by the mean cosine distance to the nearest training image where that is below 0.1.
    """
    with warnings.catch_warnings(action="ignore"):  # that it keeps all features
        metric = MemorizationInformedFrechetInceptionDistance(Extracted(training_mD.shape[1]))
    metric.update(training_mD.double(), real=True)
    metric.update(generated_nD.double(), real=False)
    return float(metric.compute())


def kernel_distance(
    real_mD: Tensor, generated: int, seed: int = 0, **kwargs: Any
) -> KernelInceptionDistance:
    """Binkowski et al. 2018: the unbiased squared maximum mean discrepancy with the kernel (x'y / D + 1)^3.

    The mean over 50 pairs of random subsets of 1,000 features each, or of all where there are fewer.

    Args:
        real_mD: Features of real images, kept over a reset; over several processes each one's share.
        generated: How many generated images there will be.
        seed: Of the subsets.
        kwargs: Of torchmetrics' `Metric`.
    """
    size = min(KID_SUBSET_SIZE, len(real_mD), generated)
    with warnings.catch_warnings(action="ignore"):  # that it keeps all features
        metric = SeededKernelDistance(
            Extracted(real_mD.shape[1]),
            subsets=KID_SUBSETS,
            subset_size=size,
            reset_real_features=False,
            **kwargs,
        ).to(real_mD.device)
    metric.seed = seed
    metric.update(real_mD, real=True)
    return metric


class SeededKernelDistance(KernelInceptionDistance):
    """torchmetrics draws its subsets from the global stream; here they are the same at every call."""

    seed = 0

    def compute(self) -> tuple[Tensor, Tensor]:
        with own_randomness(self.seed, self.device):
            values: tuple[Tensor, Tensor] = super().compute()
        return values


class TwoSample(Metric):
    """Classifier two-sample test: the accuracy with which a linear classifier tells generated from real (Lopez-Paz & Oquab 2017).

    Logistic regression on features, which are scaled to mean 0 and standard deviation 1; trained on one half of each kind, as
    many of each, and judged on the other: 0.5 cannot tell, 1 always can.

    Args:
        real_mD: Features of real images.
        seed: Of the halves.
    """

    full_state_update = False
    real_mD: Tensor
    features: list[Tensor]

    def __init__(self, real_mD: Tensor, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.register_buffer("real_mD", real_mD, persistent=False)
        self.add_state("features", [], dist_reduce_fx="cat")

    def update(self, f_BD: Tensor) -> None:
        """Adds features of generated images."""
        self.features.append(f_BD)

    def compute(self) -> Tensor:
        from sklearn.linear_model import LogisticRegression

        source = torch.Generator().manual_seed(self.seed)
        kinds = [self.real_mD.cpu().double(), dim_zero_cat(self.features).cpu().double()]
        size = min(len(f_nD) for f_nD in kinds)
        chosen = [f_nD[torch.randperm(len(f_nD), generator=source)[:size]] for f_nD in kinds]
        train_nD = torch.cat([f_nD[: size // 2] for f_nD in chosen])
        judged_nD = torch.cat([f_nD[size // 2 :] for f_nD in chosen])
        mean_D, std_D = train_nD.mean(dim=0), train_nD.std(dim=0)
        std_D[std_D == 0] = 1  # a feature that is always the same tells nothing
        regression = LogisticRegression(solver="newton-cholesky")
        kind_n = torch.arange(2).repeat_interleave(size // 2)
        regression.fit(((train_nD - mean_D) / std_D).numpy(), kind_n.numpy())
        predicted_n = torch.from_numpy(regression.predict(((judged_nD - mean_D) / std_D).numpy()))
        correct = predicted_n == torch.arange(2).repeat_interleave(size - size // 2)
        return correct.double().mean().to(self.real_mD.device)


def lpips_missing() -> str | None:
    """Why LPIPS cannot be measured; None if it can. Nothing is downloaded for it."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_BACKBONE
    return (
        None
        if path.is_file()
        else f"LPIPS: the weights of its backbone are not at hand: {LPIPS_BACKBONE} in torch.hub's folder"
    )


class ClassLPIPS(Metric):
    """Mean LPIPS distance (Zhang et al. 2018, AlexNet) of pairs of images of one class: 0 if all are alike.

    Each image of a batch is paired with the next of its class in the batch, so batches are to be in random order. Images
    are resized to 64 x 64.

    Raises:
        FileNotFoundError: if the backbone's weights are not in torch.hub's folder.
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
