"""A self-test of `method=gradient_leakage`: reconstruct real images, and compare.

Shape suffixes: n images, B images of the batch, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.data.splits import choose_per_class
from netinv_lightning.errors import InputError
from netinv_lightning.training.seeds import random_order


@dataclass(frozen=True)
class SelfTest:
    """A true batch, and other images with the same labels as control.

    Attributes:
        batch_BCHW: In [0, 1], in the order of `label_B`.
        label_B: Their labels, sorted.
        others_BCHW: Further images with these labels.
    """

    batch_BCHW: Tensor
    label_B: Tensor
    others_BCHW: Tensor

    @classmethod
    def of(cls, images: Tensor, labels: Tensor, size: int, seed: int) -> SelfTest:
        """Choose a batch from uint8 images [n, C, H, W] and labels [n].

        Raises:
            InputError: if there are fewer than two images for one of the batch.
        """
        order = random_order(len(labels), seed)
        chosen, rest = order[:size], order[size:]
        counts = labels[chosen].bincount().tolist()
        source = torch.Generator().manual_seed(seed)
        others = rest[choose_per_class(labels[rest], counts, source)]
        if len(others) < size:
            raise InputError(
                f"method.images={size}: method.self_test needs other images with the same labels "
                f"as well, but data has {len(labels)} training images. Set fewer"
            )
        chosen = chosen[labels[chosen].argsort(stable=True)]
        return cls(to_unit_range(images[chosen]), labels[chosen], to_unit_range(images[others]))

    def metrics(self, x_BCHW: Tensor, label_B: Tensor) -> dict[str, float]:
        """Compare a reconstructed batch with the true one."""
        both = [labels.cpu().bincount(minlength=1024) for labels in (label_B, self.label_B)]
        return {
            names.LEAKAGE_PSNR: matched_psnr(x_BCHW.cpu(), self.batch_BCHW),
            names.LEAKAGE_PSNR_CONTROL: matched_psnr(self.others_BCHW, self.batch_BCHW),
            names.LEAKAGE_LABELS: float(torch.minimum(*both).sum() / len(label_B)),
        }


def matched_psnr(x_BCHW: Tensor, true_BCHW: Tensor) -> float:
    """Return the mean peak signal-to-noise ratio in dB of images matched one to one.

    The sum of the mean squared errors of the pairs is minimised. Above 100 dB it is 100.
    """
    error_BB = torch.cdist(x_BCHW.flatten(1), true_BCHW.flatten(1)).square() / x_BCHW[0].numel()
    rows, columns = linear_sum_assignment(error_BB.numpy())
    return float(-10 * error_BB[rows, columns].clamp_min(1e-10).log10().mean())
