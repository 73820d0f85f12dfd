"""The real images that reconstructions are compared with: members, and as many held-out images.

Shape suffixes: n images, C channels, H height, W width, N classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.datasets import Split
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.data.splits import choose_per_class, stratified_indices
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.real_data import halves_of_test

LARGEST = 10_000
"""Largest number of members, and of held-out images."""


@dataclass(frozen=True)
class RealImages:
    """Disjoint sets of images in [0, 1]; members and held-out images have the same class counts.

    Attributes:
        members: Training images of the classifier.
        member_index_m: Their positions among the training images of the data set.
        held_out: Images that the classifier was not trained on.
        many_held_out: `held_out` and more images of the same source, with the class shares of the
            members: rates of false alarms need many images.
        others: Other images that it was not trained on, from which control sets are made.
        source: Where `held_out` comes from, in words.
        exchangeable: Whether members and held-out images are a random split of one set, so that the
            permutation test is exact.
    """

    members: Images
    member_index_m: Tensor
    held_out: Images
    many_held_out: Images
    others: Images
    source: str
    exchangeable: bool


def real_images(
    data: ImageDataModule, seed: int = 0, largest: int = LARGEST, trained_before: bool = False
) -> RealImages:
    """Select the sets from the data that a classifier was trained on.

    Held-out images are training images that were excluded from the training (`data.subset_size`,
    `data.val_fraction`). If there are none, or if the classifier was trained on other images
    before, one half of the test images is used; this split may differ from the training split even
    without a leak.

    Args:
        data: The data, split as in the training of the classifier.
        seed: Seed of every choice.
        largest: Largest number of members.
        trained_before: Whether the classifier was trained on other images before, so that no
            training image is certain to be new to it.

    Raises:
        InputError: if there is no held-out set, or fewer training images than classes.
    """
    N, members = data.spec.num_classes, data.train
    if len(members[1]) < N:
        raise InputError(
            f"data.subset_size={len(members[1])}: must be {N} or more, one image per class"
        )
    exchangeable = not trained_before and _least_per_class(data.unused[1], N) > 0
    first_half, second_half = halves_of_test(data)
    held_out, others = (data.unused, data.test) if exchangeable else (first_half, second_half)
    if not _least_per_class(held_out[1], N):
        raise InputError(
            f"data={data.spec.name}: has no held-out images of every class, which the comparison "
            "needs; exclude training images (data.val_fraction, data.subset_size) or name test "
            "images (data.test_path)"
        )
    count_N = torch.minimum(members[1].bincount(minlength=N), held_out[1].bincount(minlength=N))
    count_N = (
        (count_N * min(1.0, largest / int(count_N.sum()))).long().clamp_min(1).minimum(count_N)
    )
    chosen_members, chosen_m = _take(members, count_N, seed)
    chosen_held_out, _ = _take(held_out, count_N, seed + 1)
    return RealImages(
        members=chosen_members,
        member_index_m=data.train_indices[chosen_m],
        held_out=chosen_held_out,
        many_held_out=_more(chosen_held_out, held_out, count_N, largest=largest, seed=seed + 1),
        others=_as_images(others),
        source="excluded from its training" if exchangeable else "test images, a different split",
        exchangeable=exchangeable,
    )


def check_enough(reconstructions: int, members: int, num_classes: int) -> None:
    """Check that there is one image per class, before an attack begins.

    Raises:
        InputError: naming the key.
    """
    for key, value in (("reconstructions", reconstructions), ("members", members)):
        if value < num_classes:
            raise InputError(
                f"application.{key}={value}: must be {num_classes} or more, one image per class"
            )


def check_comparable(training_images: int | None, data: ImageDataModule) -> None:
    """Check that the data can be the training data of the classifier.

    A student (`application=distill`) was trained on no real images; it is compared with the
    training images of its teacher.

    Args:
        training_images: Number of training images in the model card; None if it has none.
        data: The data as they are split here.

    Raises:
        InputError: naming both numbers.
    """
    if training_images and training_images != len(data.train[1]):
        raise InputError(
            f"data={data.spec.name}: this split has {len(data.train[1])} training images, but the "
            f"classifier was trained on {training_images}; name the data and split of its training"
        )


def _least_per_class(label_n: Tensor, classes: int) -> int:
    return int(label_n.bincount(minlength=classes).min())


def _more(images: Images, split: Split, count_N: Tensor, *, largest: int, seed: int) -> Images:
    """Return as many images of the split as `largest` allows, with the class shares of `count_N`.

    If these are not more than `images`, these are returned.
    """
    available_N = split[1].bincount(minlength=len(count_N))
    times = min(float((available_N / count_N).min()), largest / int(count_N.sum()))
    more_N = (count_N * times).long()
    return _take(split, more_N, seed)[0] if int(more_N.sum()) > len(images.labels_n) else images


def _take(split: Split, count_N: Tensor, seed: int) -> tuple[Images, Tensor]:
    """Return a random sample of `count_N` images per class, and their indices in the split."""
    source, (images_nCHW, label_n) = torch.Generator().manual_seed(seed), split
    chosen = choose_per_class(label_n, count_N.tolist(), source)
    chosen = chosen[_at_most_largest(label_n[chosen])]
    return Images(to_unit_range(images_nCHW[chosen]), label_n[chosen]), chosen


def _as_images(split: Split) -> Images:
    images_nCHW, label_n = split
    chosen = _at_most_largest(label_n)
    return Images(to_unit_range(images_nCHW[chosen]), label_n[chosen])


def _at_most_largest(label_n: Tensor) -> Tensor:
    """Return the indices of at most `LARGEST` images, stratified by class."""
    return stratified_indices(label_n, min(len(label_n), LARGEST), 0)
