"""Inversion towards other targets than classes: a distribution, logits, a neuron or a feature vector (A3-10).

Images are optimised as by `method=gradient` (netinv_lightning/inversion/methods/gradient.py), under one term, how far an image is from its
target, and priors that need no class. There is no generator here: it learns a map from the conditions that it is drawn, and a
handful of given targets are not a distribution to draw from.

    theta ~ N(0, init_std^2) -> image -> frozen classifier -> what it reads there -> distance to the target -> theta

Shape suffixes: B batch, n images, t targets, N classes, D numbers of a target, C channels, H height, W width, V values of a step.
"""

from __future__ import annotations

import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.methods.gradient import PixelInversion
from netinv_lightning.inversion.module import NonFiniteError
from netinv_lightning.inversion.objective import Objective, Step
from netinv_lightning.training.seeds import own_randomness, stream_seed

PRIORS = ("variation", "pixel", "batch_norm", "class_spread")
"""Terms of the objective that need no class: to them the images of one target are those of one class. The others either ask for
a class, whose place the target takes, or pull at the features, which the target fixes."""

SMALLEST = 1e-12  # below the root, so that the derivative at 0 is finite
BATCH = 250  # images at a time


class Targets(ABC):
    """t targets of one kind.

    Attributes:
        rows_tD: What is to be reached.
        layer: The feature layer where it is read; None for the logits.
        error_name: What `error` measures, in words.
    """

    rows_tD: Tensor
    layer: str | None = None
    error_name: str

    def __len__(self) -> int:
        return len(self.rows_tD)

    def read(self, logits_BN: Tensor, features: Mapping[str, Tensor], row_B: Tensor) -> Tensor:
        """What the classifier gives for images of the targets `row_B`, [B, D], comparable with `rows_tD`."""
        return logits_BN if self.layer is None else features[self.layer]

    @abstractmethod
    def loss(self, read_BD: Tensor, row_B: Tensor) -> Tensor:
        """What is descended, [B]. It grows as a norm does, not as its square: of a square the gradient dies before the target."""

    @abstractmethod
    def error(self, read_BD: Tensor, row_B: Tensor) -> Tensor:
        """What is reported, [B]; 0 at the target, 0 or more."""


@dataclass
class Distributions(Targets):
    """Distributions P over the classes, [t, N]; the error is D_KL(P || Q), Q = softmax(logits), in nats."""

    rows_tD: Tensor
    error_name = "KL(P || Q)"

    def loss(self, read_BD: Tensor, row_B: Tensor) -> Tensor:
        return (self.error(read_BD, row_B) + SMALLEST).sqrt()

    def error(self, read_BD: Tensor, row_B: Tensor) -> Tensor:
        p_BN = self.rows_tD[row_B]
        # Rounding can leave a KL of -1e-8, which has no root.
        return (torch.xlogy(p_BN, p_BN) - p_BN * read_BD.log_softmax(dim=1)).sum(dim=1).clamp_min(0)

    def total_variation(self, read_BD: Tensor, row_B: Tensor) -> Tensor:
        """Half of |P - Q|_1, in [0, 1], [B]."""
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
        """Mean error of one target taken for another; of a single target NaN."""
        distance_tt = torch.cdist(
            self.rows_tD, self.rows_tD, compute_mode="donot_use_mm_for_euclid_dist"
        )
        relative_tt = distance_tt / self.rows_tD.norm(dim=1)[:, None]
        return (
            float(relative_tt.sum() / (len(self) * (len(self) - 1))) if len(self) > 1 else math.nan
        )


@dataclass
class Neurons(Targets):
    """Units of a layer, [t], of its flattened output; each is to give `value`, or as much as it can if that is None.

    The error is |a - value|, in the unit's own scale; as high as possible has none, and `error` is then 0.
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
        """Mean and 99th percentile of the units over a set of images, `images` by name; of several units the mean of each."""
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
class Aim(Condition):
    """What a batch of images aims at: `label_B` counts the targets, `target_BN` holds them, one a row."""

    targets: Targets


def target(step: Step) -> Tensor:
    """The term of the objective: mean loss of the images against their targets."""
    aim = step.condition
    assert isinstance(aim, Aim)
    return aim.targets.loss(
        aim.targets.read(step.logits_BN, step.features, aim.label_B), aim.label_B
    ).mean()


class TargetInversion(PixelInversion):
    """Gradient descent on the pixels towards given targets.

    The learning rate falls to a hundredth along a cosine, and Adam forgets faster than by its defaults: at a constant rate it
    dances around the target, and with more momentum it drives pixels into the flat ends of the sigmoid.

    Args:
        targets: What is to be reached.
        classifier: What is inverted; never changed.
        priors: Further terms of the objective, name to weight and options; the target's own has weight 1.
        options: Further arguments of `PixelInversion`.

    Raises:
        InputError: if a prior does not exist.
        ValueError: if a value is out of range; it starts with `<argument>=<value>:`.
    """

    betas = (0.7, 0.95)
    final_lr = 0.01
    success = names.TARGET_ERROR

    def __init__(
        self,
        targets: Targets,
        classifier: FrozenClassifier,
        priors: Mapping[str, Mapping[str, Any]],
        **options: Any,
    ) -> None:
        objective = Objective(
            {"target": {"weight": 1.0, "_target_": target}, **priors}, classifier.feature_layers
        )
        spec = classifier.spec
        conditioning = Conditioning(
            spec.num_classes, spec.image_size, "label"
        )  # which draws nothing here: targets are given
        super().__init__(conditioning, classifier, objective, **options)
        self.targets = targets

    def approach(self, images: int, seed: int) -> tuple[Tensor, Tensor]:
        """Optimises `images` images a target, each from a start of its own.

        Args:
            images: Images a target.
            seed: Of the starts, jitter and augmentation.

        Returns:
            Images [n, C, H, W] in [0, 1], on the CPU, those of a target one after another; and the target of each, [n].
        """
        row_n = torch.arange(len(self.targets), device=self.device).repeat_interleave(images)
        parts = []
        # Images of one target stay together: the priors compare them.
        for number, row_B in enumerate(row_n.split(max(1, BATCH // images) * images)):
            with own_randomness(stream_seed(seed, number), self.device):
                parts.append(
                    self.draw(
                        Aim(row_B, self.targets.rows_tD[row_B], None, None, self.targets)
                    ).cpu()
                )
        return torch.cat(parts), row_n.cpu()

    def _success(self, step: Step) -> Tensor:
        row_B = step.condition.label_B
        return self.targets.error(
            self.targets.read(step.logits_BN, step.features, row_B), row_B
        ).mean()


@dataclass(frozen=True)
class Read:
    """What the classifier gives for images, on the CPU: what targets compare, the errors, the logits."""

    value_nD: Tensor
    error_n: Tensor
    logits_nN: Tensor


@torch.no_grad()
def read_images(
    x_nCHW: Tensor, row_n: Tensor, targets: Targets, classifier: FrozenClassifier
) -> Read:
    """Passes images, as they are, through the classifier, and compares them with the targets `row_n`."""
    device, parts = classifier.mean_C11.device, []
    for x_BCHW, row_B in zip(x_nCHW.split(BATCH), row_n.to(device).split(BATCH), strict=True):
        logits_BN, features = classifier.logits_and_features(x_BCHW.to(device))
        value_BD = targets.read(logits_BN, features, row_B)
        parts.append((value_BD.cpu(), targets.error(value_BD, row_B).cpu(), logits_BN.cpu()))
    return Read(*(torch.cat(part) for part in zip(*parts, strict=True)))


def likeness(x_nCHW: Tensor, row_n: Tensor, original_tCHW: Tensor) -> dict[str, float]:
    """How like the images are to those whose features were the targets, beside all the other originals.

    Args:
        x_nCHW: Images made.
        row_n: The target of each.
        original_tCHW: The images that the targets came from.

    Returns:
        Root mean square difference of pixels, in units of the pixel range, and SSIM (Wang et al. 2004), means over the images; with
        one target alone nothing to compare them with.
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
    """Mean root mean square difference between two images of one target, in units of the pixel range; NaN for one image each."""
    x_tKP = x_nCHW.flatten(1).unflatten(0, (targets, -1))
    K = x_tKP.shape[1]
    distance_tKK = torch.cdist(
        x_tKP, x_tKP, compute_mode="donot_use_mm_for_euclid_dist"
    ) / math.sqrt(x_tKP.shape[2])
    return float(distance_tKK.sum() / (targets * K * (K - 1))) if K > 1 else math.nan


class StepReport:
    """Logs the optimisation of the first batch, and says where each batch stands."""

    def __init__(self, loggers: list[Logger], steps: int, every_seconds: float = 10.0) -> None:
        self.loggers, self.steps, self.every_seconds = loggers, steps, every_seconds
        self._last = time.monotonic()

    def __call__(self, batch: int, step: int, values: Mapping[str, float]) -> None:
        if bad := [name for name, value in values.items() if not math.isfinite(value)]:
            raise NonFiniteError(
                f"{', '.join(bad)} is not finite at step {step} of batch {batch}; try a smaller application.lr"
            )
        if batch == 1:
            for logger in self.loggers:
                logger.log_metrics(dict(values), step=step)
        if time.monotonic() - self._last >= self.every_seconds:
            self._last = time.monotonic()
            loss = values[names.loss("target")]
            print(
                f"images: batch {batch}, step {step}/{self.steps}  {names.loss('target')} {loss:.4f}",
                file=sys.stderr,
                flush=True,
            )
