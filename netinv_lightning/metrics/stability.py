"""Stability of the inversion accuracy under small disturbances of the images.

Shape suffixes: B batch, C channels, H height, W width, K kinds of disturbance, P = C H W.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from netinv_lightning.data.pixels import to_uint8, to_unit_range
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.training.distributed import Stream

BLUR_SIGMA = 0.5
LINF_RADIUS = 8 / 255
MEAN_CHANGE = 0.02
"""Size of random noise in units of the pixel range: mean change of a pixel for L1, root mean square
change for L2.
"""


def quantised(x_BCHW: Tensor, stream: Stream) -> Tensor:
    """Quantise to 256 levels, as an image file does."""
    return to_unit_range(to_uint8(x_BCHW))


def blurred(x_BCHW: Tensor, stream: Stream) -> Tensor:
    """Blur with a 3 x 3 Gaussian of standard deviation `BLUR_SIGMA`; borders are replicated."""
    taps_3 = torch.exp(
        -torch.tensor([-1.0, 0.0, 1.0], dtype=x_BCHW.dtype, device=x_BCHW.device).square()
        / (2 * BLUR_SIGMA**2)
    )
    kernel_33 = torch.outer(taps_3, taps_3) / taps_3.sum().square()
    C = x_BCHW.shape[1]
    return F.conv2d(
        F.pad(x_BCHW, (1,) * 4, mode="replicate"), kernel_33.expand(C, 1, 3, 3), groups=C
    )


def shifted(x_BCHW: Tensor, stream: Stream) -> Tensor:
    """Shift each image by one pixel, up, down, left or right at random; borders are replicated."""
    _, _, H, W = x_BCHW.shape
    padded = F.pad(x_BCHW, (1,) * 4, mode="replicate")
    moved = torch.stack(
        [padded[:, :, dy : dy + H, dx : dx + W] for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2))]
    )
    return moved[
        (stream.uniform(len(x_BCHW)) * 4).long(), torch.arange(len(x_BCHW), device=x_BCHW.device)
    ]


def _noisy(norm: str) -> Callable[[Tensor, Stream], Tensor]:
    def noisy(x_BCHW: Tensor, stream: Stream) -> Tensor:
        P = x_BCHW[0].numel()
        radius = {"l1": MEAN_CHANGE * P, "l2": MEAN_CHANGE * math.sqrt(P), "linf": LINF_RADIUS}[
            norm
        ]
        # A random perturbation uses neither labels nor classifier.
        return Perturbation(norm, radius)(x_BCHW, torch.empty(0), lambda x: x, stream)

    return noisy


DISTURBANCES: dict[str, Callable[[Tensor, Stream], Tensor]] = {
    "quantised": quantised,
    "blur": blurred,
    "shift": shifted,
    "l1": _noisy("l1"),
    "l2": _noisy("l2"),
    "linf": _noisy("linf"),
}
"""Functions from images to disturbed images. Random noise is on the L1 sphere of radius 0.02 P, on
the L2 sphere of radius 0.02 sqrt(P), or uniform in the Linf ball of radius 8/255 (for 28 x 28:
15.7, 0.56, 0.031); then clipped to [0, 1].
"""


class Stability(Metric):
    """Share of images that are still classified as their label after each of `DISTURBANCES`.

    Args:
        seed: Seed of shifts and noise. Draws continue from batch to batch and restart after a
            reset.
    """

    full_state_update = False
    agreeing_K: Tensor
    count: Tensor

    def __init__(self, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stream = Stream(seed)
        self.add_state(
            "agreeing_K", torch.zeros(len(DISTURBANCES), dtype=torch.long), dist_reduce_fx="sum"
        )
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(
        self, x_BCHW: Tensor, label_B: Tensor, classifier: Callable[[Tensor], Tensor]
    ) -> None:
        """Add a batch: images in [0, 1], conditioning labels, a function from images to logits."""
        stream = self.stream.to(x_BCHW.device)
        for kind, disturb in enumerate(DISTURBANCES.values()):
            self.agreeing_K[kind] += (
                classifier(disturb(x_BCHW, stream)).argmax(dim=1) == label_B
            ).sum()
        self.count += len(label_B)

    def compute(self) -> dict[str, Tensor]:
        return dict(zip(DISTURBANCES, self.agreeing_K.double() / self.count, strict=True))

    def reset(self) -> None:
        super().reset()
        self.stream = Stream(self.stream.seed)
