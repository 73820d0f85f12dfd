"""Control sets: images that take the place of reconstructions in a comparison with real images.

Shape suffixes: m members.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from netinv_lightning.data import noise, splits
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.privacy.real_images import RealImages
from netinv_lightning.training.seeds import random_order

PLANTED_SHARE, PLANTED_NOISE = 0.1, 0.1
"""Planted leak: share of the members that it contains, and standard deviation of the Gaussian noise
that is added to them."""


def other_real_images(count: int, real: RealImages, seed: int) -> Images:
    """Return real images that are neither members nor held-out images."""
    chosen = random_order(len(real.others.labels_n), seed)[:count]
    return Images(real.others.images_nCHW[chosen], real.others.labels_n[chosen])


def class_means(count: int, real: RealImages, seed: int) -> Images:
    """Return the mean of other real images per class: typical of the class, but not a member."""
    return Images(*splits.class_means(real.others.images_nCHW, real.others.labels_n))


def uniform_noise(count: int, real: RealImages, seed: int) -> Images:
    """Return uniform noise in [0, 1]; the labels cycle through the classes of the members."""
    like = real.members
    classes = like.labels_n.unique()
    label_n = classes.repeat(math.ceil(count / len(classes)))[:count]
    return Images(noise.uniform_noise(like.images_nCHW.shape[1:], count, seed), label_n)


def planted_leak(count: int, real: RealImages, seed: int) -> Images:
    """Return the positive control: noisy copies of some members, among other real images."""
    noisy, rest = noisy_copies(real, PLANTED_SHARE, seed), other_real_images(count, real, seed)
    return Images(
        torch.cat([noisy.images_nCHW, rest.images_nCHW]),
        torch.cat([noisy.labels_n, rest.labels_n]),
    )


def noisy_copies(real: RealImages, share: float, seed: int) -> Images:
    """Return noisy copies of a random share of the members, at least of one."""
    source = torch.Generator().manual_seed(seed)
    m = len(real.members.labels_n)
    chosen = torch.randperm(m, generator=source)[: max(1, round(share * m))]
    x_nCHW = real.members.images_nCHW[chosen]
    noisy = (x_nCHW + PLANTED_NOISE * torch.randn(x_nCHW.shape, generator=source)).clamp(0, 1)
    return Images(noisy, real.members.labels_n[chosen])


CONTROLS: dict[str, Callable[[int, RealImages, int], Images]] = {
    "other real images": other_real_images,
    "class means": class_means,
    "noise": uniform_noise,
    "planted leak": planted_leak,
}
"""Functions that create a control set from a count, the real images and a seed, by name. Only the
last set contains members."""
