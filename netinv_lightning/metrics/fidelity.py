"""Distance of generated from real images, in the features of an independent network.

The functions take extracted features. Names of these metrics contain the network
(`fidelity/fid/<network>`): values of different networks are not comparable with each other or with
those of the Inception network in papers.

Shape suffixes: B batch, n generated images, m real images, C channels, H height, W width, D
features.
"""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance  # not exported without torch-fidelity
from torchmetrics.image.kid import KernelInceptionDistance
from torchmetrics.image.mifid import MemorizationInformedFrechetInceptionDistance

from netinv_lightning.training.seeds import own_randomness

KID_SUBSETS, KID_SUBSET_SIZE = 50, 1000


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
