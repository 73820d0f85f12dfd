"""Sets of images that are measured, and the real ones that they are measured against.

Shape suffixes: n images, m chosen images, C channels, H height, W width, N classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from netinv_lightning.data.module import ImageDataModule
from netinv_lightning.data.sources import Split
from netinv_lightning.data.spec import DataSpec
from netinv_lightning.data.splits import stratified_indices
from netinv_lightning.errors import InputError


@dataclass
class Images:
    """A set of images to measure.

    Attributes:
        images_nCHW: In [0, 1].
        labels_n: The class that each was made to be.
        targets_nN: The conditioning distribution of each; None for one-hot.
    """

    images_nCHW: Tensor
    labels_n: Tensor
    targets_nN: Tensor | None = None

    def to(self, device: torch.device) -> Images:
        targets_nN = self.targets_nN if self.targets_nN is None else self.targets_nN.to(device)
        return Images(self.images_nCHW.to(device), self.labels_n.to(device), targets_nN)


def of_split(split: Split, most: int, seed: int = 0) -> Images:
    """Real images of a split, at most `most` of them, each class by its share."""
    images_nCHW, labels_n = split
    chosen_m = stratified_indices(labels_n, min(len(labels_n), most), seed)
    return Images(images_nCHW[chosen_m].float() / 255, labels_n[chosen_m])


def halves_of_test(real: ImageDataModule) -> tuple[Split, Split]:
    """The half of the test images that judges what was trained on generated ones, and the half that may be measured itself.

    What is trained on the second half is not judged by images that it has seen. The halves are always the same.
    """
    images_nCHW, labels_n = real.test
    judging_n = torch.zeros(len(labels_n), dtype=torch.bool)
    judging_n[stratified_indices(labels_n, len(labels_n) // 2, 0)] = True
    return (images_nCHW[judging_n], labels_n[judging_n]), (images_nCHW[~judging_n], labels_n[~judging_n])


def check_images(images: Images, spec: DataSpec) -> None:
    """Refuses what are no images for a classifier of `spec`.

    Raises:
        InputError: saying how many images are wrong, and how.
    """
    x_nCHW, labels_n, n = images.images_nCHW, images.labels_n, len(images.labels_n)
    shape, N = (spec.channels, spec.image_size, spec.image_size), spec.num_classes
    if x_nCHW.shape != (n, *shape):
        raise InputError(
            f"samples: {len(x_nCHW)} images of shape {tuple(x_nCHW.shape[1:])} with {n} labels; "
            f"must be as many images as labels, of the classifier's shape {shape}"
        )
    broken = int((~x_nCHW.flatten(1).isfinite().all(dim=1)).sum())
    if broken:
        raise InputError(f"samples: {broken} of {n} images hold NaN or infinity; leave them out, or make the images anew")
    outside = int(((x_nCHW < 0) | (x_nCHW > 1)).flatten(1).any(dim=1).sum())
    if outside:
        raise InputError(f"samples: {outside} of {n} images have pixels outside of [0, 1]; scale them to it")
    wrong = int(((labels_n < 0) | (labels_n >= N)).sum())
    if wrong:
        raise InputError(f"samples: {wrong} of {n} labels are not from 0 to {N - 1}; the classifier has {N} classes")
    targets_nN = images.targets_nN
    if targets_nN is not None and (targets_nN.shape != (n, N) or not targets_nN.isfinite().all()):
        raise InputError(f"samples: conditioning is of shape {tuple(targets_nN.shape)}, must be finite numbers of shape {(n, N)}")
