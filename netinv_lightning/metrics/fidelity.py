"""Distance of generated from real images, in the features of an independent network.

The functions take extracted features. Names of these metrics contain the network
(`fidelity/fid/<network>`): values of different networks are not comparable with each other or with
those of the Inception network in papers.

Shape suffixes: B batch, n generated images, m real images, C channels, H height, W width, D
features.
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
from torchmetrics.image.fid import FrechetInceptionDistance  # not exported without torch-fidelity
from torchmetrics.image.kid import KernelInceptionDistance
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from torchmetrics.image.mifid import MemorizationInformedFrechetInceptionDistance
from torchmetrics.utilities import dim_zero_cat

from netinv_lightning.training.seeds import own_randomness

KID_SUBSETS, KID_SUBSET_SIZE = 50, 1000
LPIPS_BACKBONE = "alexnet-owt-7be5be79.pth"
LPIPS_SIDE = 64  # 28 x 28 is too small for the pooling layers of AlexNet


class Extracted(nn.Module):
    """Replacement for the Inception network of torchmetrics, for inputs that are features."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_features = dim

    def forward(self, f_BD: Tensor) -> Tensor:
        return f_BD


def frechet_distance(real_mD: Tensor, **kwargs: Any) -> FrechetInceptionDistance:
    """Create the Frechet distance (Heusel et al. 2017, arXiv 1706.08500).

    It is the squared Frechet distance of two Gaussians with the means and covariances of the
    features.

    Args:
        real_mD: Features of real images, kept over a reset; with several processes, the share of
            this process.
        kwargs: Arguments of torchmetrics' `Metric`.
    """
    metric = FrechetInceptionDistance(
        Extracted(real_mD.shape[1]), reset_real_features=False, **kwargs
    ).to(real_mD.device)
    metric.update(real_mD.double(), real=True)
    return metric


def memorisation_informed_distance(training_mD: Tensor, generated_nD: Tensor) -> float:
    """Compute the memorisation-informed Frechet distance (Bai et al. 2021, arXiv 2106.03062).

    It is the Frechet distance, divided by the mean cosine distance of generated images to their
    nearest training image if that is below 0.1. Memorised images therefore increase it.
    """
    with warnings.catch_warnings(action="ignore"):  # it warns that it stores all features
        metric = MemorizationInformedFrechetInceptionDistance(Extracted(training_mD.shape[1]))
    metric.update(training_mD.double(), real=True)
    metric.update(generated_nD.double(), real=False)
    return float(metric.compute())


def kernel_distance(
    real_mD: Tensor, generated: int, seed: int = 0, **kwargs: Any
) -> KernelInceptionDistance:
    """Create the kernel inception distance (Binkowski et al. 2018, arXiv 1801.01401).

    It is the unbiased squared maximum mean discrepancy with the kernel (x'y / D + 1)^3: the mean
    over 50 pairs of random subsets of 1,000 features each, or of all if there are fewer.

    Args:
        real_mD: Features of real images, kept over a reset; with several processes, the share of
            this process.
        generated: Number of generated images that will be added.
        seed: Seed of the subsets.
        kwargs: Arguments of torchmetrics' `Metric`.
    """
    size = min(KID_SUBSET_SIZE, len(real_mD), generated)
    with warnings.catch_warnings(action="ignore"):  # it warns that it stores all features
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
    """Kernel distance with the same subsets in every call."""

    seed = 0

    def compute(self) -> tuple[Tensor, Tensor]:
        with own_randomness(self.seed, self.device):
            values: tuple[Tensor, Tensor] = super().compute()
        return values


class TwoSample(Metric):
    """Classifier two-sample test (Lopez-Paz and Oquab 2017, arXiv 1610.06545).

    The metric is the accuracy of a linear classifier that separates generated from real images. A
    logistic regression on standardised features is trained on one half of each kind, with equal
    numbers of both, and evaluated on the other half. At 0.5 the images cannot be separated; at 1
    they are separated perfectly.

    Args:
        real_mD: Features of real images.
        seed: Seed of the halves.
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
        """Add features of generated images."""
        self.features.append(f_BD)

    def compute(self) -> Tensor:
        from sklearn.linear_model import LogisticRegression

        source = torch.Generator().manual_seed(self.seed)
        kinds = [self.real_mD.cpu().double(), dim_zero_cat(self.features).cpu().double()]
        size = min(len(f_nD) for f_nD in kinds)
        chosen = [f_nD[torch.randperm(len(f_nD), generator=source)[:size]] for f_nD in kinds]
        train_nD = torch.cat([f_nD[: size // 2] for f_nD in chosen])
        test_nD = torch.cat([f_nD[size // 2 :] for f_nD in chosen])
        mean_D, std_D = train_nD.mean(dim=0), train_nD.std(dim=0)
        std_D[std_D == 0] = 1  # constant features
        regression = LogisticRegression(solver="newton-cholesky")
        kind_n = torch.arange(2).repeat_interleave(size // 2)
        regression.fit(((train_nD - mean_D) / std_D).numpy(), kind_n.numpy())
        predicted_n = torch.from_numpy(regression.predict(((test_nD - mean_D) / std_D).numpy()))
        correct = predicted_n == torch.arange(2).repeat_interleave(size - size // 2)
        return correct.double().mean().to(self.real_mD.device)


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
