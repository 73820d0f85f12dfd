"""Images that a classifier was not made for, brought to its shape by one rule (A6-7 to A6-9).

The rule: gray becomes RGB by three equal channels, RGB becomes gray by its luminance (ITU-R BT.601), and another size is
resampled bilinearly with antialiasing. So what differs from the classifier's data is what is seen, not its format.

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import datasets
from torchvision.transforms.functional import rgb_to_grayscale

from netinv_lightning.data.sources import LOADERS, Split, torchvision_set
from netinv_lightning.data.spec import DataSpec
from netinv_lightning.data.splits import stratified_indices
from netinv_lightning.errors import InputError, nearest

NOISE_STD = 0.25
"""Of Gaussian noise about 0.5, cut off at 0 and 1, which are two standard deviations away."""


def gaussian_noise(spec: DataSpec, count: int, seed: int) -> Tensor:
    """Pixels of N(0.5, 0.25^2), cut off at 0 and 1."""
    shape = (count, spec.channels, spec.image_size, spec.image_size)
    return (0.5 + NOISE_STD * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).clamp(0, 1)


def uniform_noise(spec: DataSpec, count: int, seed: int) -> Tensor:
    """Pixels of U[0, 1]."""
    return torch.rand(count, spec.channels, spec.image_size, spec.image_size, generator=torch.Generator().manual_seed(seed))


def emnist_letters(root: Path, train: bool) -> Split:
    """Handwritten letters, 26 classes; the files hold them on their side."""
    data = torchvision_set(datasets.EMNIST, root, split="letters", train=train)
    return data.data[:, None].transpose(2, 3).contiguous(), data.targets - 1


NOISE: dict[str, Callable[[DataSpec, int, int], Tensor]] = {"gaussian_noise": gaussian_noise, "uniform_noise": uniform_noise}
IMAGES: dict[str, Callable[[Path, bool], Split]] = {**LOADERS, "emnist_letters": emnist_letters}
SAME = (("mnist", "mnist5k"), ("svhn", "svhn_head", "svhn_clean", "svhn_head_clean"))
"""Names of one and the same data, or of parts of it."""


def check_outliers(name: str, inside: str) -> None:
    """Refuses an unknown set, and one that is the in-distribution data itself.

    Args:
        name: Of the set.
        inside: Of the data that the classifier was trained on.

    Raises:
        InputError: naming the set.
    """
    if name not in NOISE and name not in IMAGES:
        raise InputError(f"application.outliers={name}: no such set; {nearest(name, [*NOISE, *IMAGES])}")
    if name == inside or any(name in family and inside in family for family in SAME):
        raise InputError(f"application.outliers={name}: is the classifier's own data ({inside}); name sets that it was not trained on")


def outliers(name: str, spec: DataSpec, count: int, seed: int, root: Path) -> Tensor:
    """At most `count` images [n, C, H, W] in [0, 1] of a set, in the shape of `spec`; of images the test split.

    Raises:
        InputError: if the data are not there.
    """
    if name in NOISE:
        return NOISE[name](spec, count, seed)
    images_nCHW, labels_n = IMAGES[name](root, False)
    chosen_n = stratified_indices(labels_n, min(count, len(labels_n)), seed)
    return in_shape_of(spec, images_nCHW[chosen_n].float() / 255)


def in_shape_of(spec: DataSpec, x_nCHW: Tensor) -> Tensor:
    """Images in the channels and the size of `spec`, by the rule above."""
    if x_nCHW.shape[1] != spec.channels:
        x_nCHW = x_nCHW.expand(-1, 3, -1, -1) if spec.channels == 3 else rgb_to_grayscale(x_nCHW)
    if x_nCHW.shape[2:] != (spec.image_size, spec.image_size):
        x_nCHW = F.interpolate(x_nCHW, (spec.image_size, spec.image_size), mode="bilinear", antialias=True).clamp(0, 1)
    return x_nCHW
