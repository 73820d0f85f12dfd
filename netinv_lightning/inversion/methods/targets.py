"""Targets of an inversion other than classes: distributions, logits, neurons, feature vectors.

Shape suffixes: B batch, n images, t targets, N classes, D numbers of a target, C channels, H
height, W width, K images of a target, P pixels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchmetrics.functional.image.ssim import structural_similarity_index_measure

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier

SMALLEST = 1e-12
"""Added below a root, so that its derivative at 0 is finite."""
BATCH = 250
"""Number of images in one forward pass."""


class Targets(ABC):
    """t targets of one kind.

    Attributes:
        rows_tD: The values to reach.
        layer: The feature layer with these values; None for the logits.
        error_name: The name of `error` in messages.
    """

    rows_tD: Tensor
    layer: str | None = None
    error_name: str

    def __len__(self) -> int:
        return len(self.rows_tD)

    def read(self, logits_BN: Tensor, features: Mapping[str, Tensor], row_B: Tensor) -> Tensor:
        """Return the classifier's values for images of the targets `row_B`, [B, D]."""
        return logits_BN if self.layer is None else features[self.layer]

    @abstractmethod
    def loss(self, read_BD: Tensor, row_B: Tensor) -> Tensor:
        """Return the loss of each image, [B].

        It is a norm, because the gradient of a squared norm vanishes near the target.
        """

    @abstractmethod
    def error(self, read_BD: Tensor, row_B: Tensor) -> Tensor:
        """Return the reported error of each image, [B], 0 or more; 0 at the target."""


@dataclass
class Distributions(Targets):
    """Distributions P over the classes, [t, N].

    The error is D_KL(P || Q) with Q = softmax(logits), in nats.
    """

    rows_tD: Tensor
    error_name = "KL(P || Q)"

    def loss(self, read_BD: Tensor, row_B: Tensor) -> Tensor:
        return (self.error(read_BD, row_B) + SMALLEST).sqrt()

    def error(self, read_BD: Tensor, row_B: Tensor) -> Tensor:
        p_BN = self.rows_tD[row_B]
        # Due to rounding the KL divergence can be about -1e-8, whose square root is NaN.
        return (torch.xlogy(p_BN, p_BN) - p_BN * read_BD.log_softmax(dim=1)).sum(dim=1).clamp_min(0)

    def total_variation(self, read_BD: Tensor, row_B: Tensor) -> Tensor:
        """Return half of |P - Q|_1 of each image, in [0, 1], [B]."""
        return (self.rows_tD[row_B] - read_BD.softmax(dim=1)).abs().sum(dim=1) / 2


@dataclass
class Vectors(Targets):
    """Logits [t, N], or features [t, D] of a layer; the error is |a - v| / |v| in L2."""

    rows_tD: Tensor
    layer: str | None = None
    error_name = "relative L2 distance"

    def loss(self, read_BD: Tensor, row_B: Tensor) -> Tensor:
        v_BD = self.rows_tD[row_B]
        return ((read_BD - v_BD).square().sum(dim=1) / v_BD.square().sum(dim=1) + SMALLEST).sqrt()

    def error(self, read_BD: Tensor, row_B: Tensor) -> Tensor:
        v_BD = self.rows_tD[row_B]
        return (read_BD - v_BD).norm(dim=1) / v_BD.norm(dim=1)

    def unrelated(self) -> float:
        """Return the mean error between two different targets; NaN for a single target."""
        distance_tt = torch.cdist(
            self.rows_tD, self.rows_tD, compute_mode="donot_use_mm_for_euclid_dist"
        )
        relative_tt = distance_tt / self.rows_tD.norm(dim=1)[:, None]
        return (
            float(relative_tt.sum() / (len(self) * (len(self) - 1))) if len(self) > 1 else math.nan
        )


@dataclass
class Neurons(Targets):
    """Units [t] of the flattened output of a layer.

    The activation of each unit should be `value`, or as high as possible if `value` is None. The
    error is |a - value| in the scale of the unit, and 0 if `value` is None.
    """

    unit_t: Tensor
    value: float | None
    layer: str | None
    error_name = "|activation - value|"
    rows_tD: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.rows_tD = torch.full(
            (len(self.unit_t), 1),
            math.nan if self.value is None else self.value,
            device=self.unit_t.device,
        )

    def read(self, logits_BN: Tensor, features: Mapping[str, Tensor], row_B: Tensor) -> Tensor:
        return super().read(logits_BN, features, row_B).gather(1, self.unit_t[row_B, None])

    def loss(self, read_BD: Tensor, row_B: Tensor) -> Tensor:
        return -read_BD[:, 0] if self.value is None else self.error(read_BD, row_B)

    def error(self, read_BD: Tensor, row_B: Tensor) -> Tensor:
        return (
            torch.zeros_like(read_BD[:, 0])
            if self.value is None
            else (read_BD[:, 0] - self.value).abs()
        )

    def distribution(
        self, images: str, x_nCHW: Tensor, classifier: FrozenClassifier
    ) -> dict[str, float]:
        """Return mean and 99th percentile of the activations, averaged over the units.

        Args:
            images: The name of the set of images.
            x_nCHW: The images.
            classifier: The classifier.
        """
        t, n = len(self), len(x_nCHW)
        value_nD = [
            read_images(x_nCHW, torch.full((n,), row), self, classifier).value_nD
            for row in range(t)
        ]
        value_tn = torch.stack(value_nD).squeeze(2)
        return {
            names.activation(images, "mean"): float(value_tn.mean()),
            names.activation(images, "p99"): float(value_tn.quantile(0.99, dim=1).mean()),
        }


@dataclass(frozen=True)
class Read:
    """Outputs of the classifier for images, on the CPU.

    Attributes:
        value_nD: The values that are compared with the targets.
        error_n: The errors.
        logits_nN: The logits.
    """

    value_nD: Tensor
    error_n: Tensor
    logits_nN: Tensor


@torch.no_grad()
def read_images(
    x_nCHW: Tensor, row_n: Tensor, targets: Targets, classifier: FrozenClassifier
) -> Read:
    """Pass images through the classifier without augmentation; compare with the targets `row_n`."""
    device, parts = classifier.mean_C11.device, []
    for x_BCHW, row_B in zip(x_nCHW.split(BATCH), row_n.to(device).split(BATCH), strict=True):
        logits_BN, features = classifier.logits_and_features(x_BCHW.to(device))
        value_BD = targets.read(logits_BN, features, row_B)
        parts.append((value_BD.cpu(), targets.error(value_BD, row_B).cpu(), logits_BN.cpu()))
    return Read(*(torch.cat(part) for part in zip(*parts, strict=True)))


def likeness(x_nCHW: Tensor, row_n: Tensor, original_tCHW: Tensor) -> dict[str, float]:
    """Compare images with the originals of their targets, and with the other originals.

    Args:
        x_nCHW: The images.
        row_n: The target of each.
        original_tCHW: The originals.

    Returns:
        Root mean square difference of the pixels, in units of the pixel range, and SSIM (Wang et
        al. 2004), as means over the images. A single target has no other originals.
    """
    t = len(original_tCHW)

    def against(shift: int) -> tuple[Tensor, Tensor]:
        other_nCHW = original_tCHW[(row_n + shift) % t]
        rmse_n = (x_nCHW - other_nCHW).flatten(1).square().mean(dim=1).sqrt()
        ssim_n = structural_similarity_index_measure(
            x_nCHW, other_nCHW, data_range=1.0, reduction="none"
        )
        assert isinstance(ssim_n, Tensor)
        return rmse_n.mean(), ssim_n.mean()

    metrics = dict(zip((names.TARGET_RMSE, names.TARGET_SSIM), map(float, against(0)), strict=True))
    if t > 1:
        others = torch.tensor([against(shift) for shift in range(1, t)]).mean(dim=0)
        metrics |= dict(
            zip(
                (names.TARGET_RMSE_UNRELATED, names.TARGET_SSIM_UNRELATED),
                others.tolist(),
                strict=True,
            )
        )
    return metrics


def spread(x_nCHW: Tensor, targets: int) -> float:
    """Return the mean difference between two images of one target.

    It is a root mean square, in units of the pixel range; NaN for one image per target.
    """
    x_tKP = x_nCHW.flatten(1).unflatten(0, (targets, -1))
    K = x_tKP.shape[1]
    distance_tKK = torch.cdist(
        x_tKP, x_tKP, compute_mode="donot_use_mm_for_euclid_dist"
    ) / math.sqrt(x_tKP.shape[2])
    return float(distance_tKK.sum() / (targets * K * (K - 1))) if K > 1 else math.nan
