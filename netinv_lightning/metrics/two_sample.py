"""Test whether generated images can be told from real ones by a linear classifier.

Shape suffixes: B batch, n images of a kind, m real images, D features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


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
