"""The real images that reconstructions are judged by: those that the classifier was trained on, and as many that it was not.

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from omegaconf import DictConfig
from torch import Tensor

from netinv_lightning.classifiers.build import SPLIT_KEYS, told_card, told_split
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.datasets import Split
from netinv_lightning.data.splits import stratified_indices
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.image_sets import Images, halves_of_test

LARGEST = 10_000
"""At most so many members, and as many held-out images."""


@dataclass(frozen=True)
class RealImages:
    """Three sets without an image in common, in [0, 1], the first two with as many images of each class.

    Attributes:
        members: Of the training set.
        held_out: That the classifier was not trained on.
        others: That it was not trained on either, from which controls are made.
        source: Where `held_out` is from, in words.
        exchangeable: Whether members and held-out images are a random split of one set, so that permuting them is exact.
    """

    members: Images
    held_out: Images
    others: Images
    source: str
    exchangeable: bool


def with_training_split(cfg: DictConfig) -> DictConfig:
    """The config whose `data` keys are those of the classifier's training, as its card or `application.trained_on` tells them.

    Raises:
        InputError: if neither tells it, or both do, or a key on the command line says something else than the card.
    """
    cfg, split, trained_on = cfg.copy(), told_split(cfg), cfg.application.trained_on
    known = bool(split) or cfg.classifier.train
    if known and trained_on is not None:
        raise InputError(
            f"application.trained_on={trained_on}: what the classifier was trained on is known; leave it out"
        )
    if not known and trained_on is None:
        raise InputError(
            "application.trained_on: no card tells which images the classifier was trained on, and without that there is no answer; "
            f"say all (every training image of data={cfg.data.name}) or split (what data.val_fraction, data.subset_size and "
            "data.split_seed leave), or name them: application.trained_on=all data=npz data.path=TRAINED_ON.npz data.test_path=OTHERS.npz"
        )
    if trained_on == "all":
        cfg.data.val_fraction, cfg.data.subset_size = 0.0, None
    defaults = {"val_fraction": 0.1, "subset_size": None, "split_seed": 0, "classes": None}
    for key in SPLIT_KEYS:
        if key not in split:
            continue
        told, asked = split[key], cfg.data[key]
        if asked not in (told, defaults[key]):
            raise InputError(
                f"data.{key}={asked}: the classifier was trained with data.{key}={told}, as its card says; leave it out"
            )
        cfg.data[key] = told
    return cfg


def real_images(
    data: ImageDataModule, seed: int = 0, largest: int = LARGEST, trained_before: bool = False
) -> RealImages:
    """Takes the three sets from the data that a classifier was trained on.

    Held-out images are training images that it did not see (`data.subset_size`, `data.val_fraction`); where there are none, or it had
    learnt from others before, a half of the test images, whose split may differ from the training images' by itself.

    Args:
        data: The data, split as for the classifier's training.
        seed: Of every choice.
        largest: Members at most.
        trained_before: Whether other images came before those, so that no training image is sure to be new to it.

    Raises:
        InputError: if there is no held-out set, or the training set has fewer images than classes.
    """
    N, members = data.spec.num_classes, data.train
    if len(members[1]) < N:
        raise InputError(
            f"data.subset_size={len(members[1])}: must be {N} or more, an image for each class"
        )
    exchangeable = not trained_before and _least(data.unused[1], N) > 0
    judging, rest = halves_of_test(data)
    held_out, others = (data.unused, data.test) if exchangeable else (judging, rest)
    if not _least(held_out[1], N):
        raise InputError(
            f"data={data.spec.name}: has no held-out set with images of every class, and without one there is no answer; hold training "
            "images out (data.val_fraction, data.subset_size) or name test images (data.test_path)"
        )
    count_N = torch.minimum(members[1].bincount(minlength=N), held_out[1].bincount(minlength=N))
    count_N = (
        (count_N * min(1.0, largest / int(count_N.sum()))).long().clamp_min(1).minimum(count_N)
    )
    source = (
        "training images that it was not trained on"
        if exchangeable
        else "test images, a split of their own"
    )
    return RealImages(
        _take(members, count_N, seed),
        _take(held_out, count_N, seed + 1),
        _as_images(others),
        source,
        exchangeable,
    )


def check_enough(cfg: DictConfig, num_classes: int) -> None:
    """Refuses fewer images than classes, before an attack instead of after it.

    Raises:
        InputError: naming the key.
    """
    for key in ("reconstructions", "members"):
        if cfg.application[key] < num_classes:
            raise InputError(
                f"application.{key}={cfg.application[key]}: must be {num_classes} or more, an image for each class"
            )


def check_comparable(cfg: DictConfig, data: ImageDataModule) -> None:
    """Refuses data that were plainly not what the classifier was trained on: another number of training images than its card tells.

    A student (`application=distill`) learnt from none, and is asked about its teacher's.

    Raises:
        InputError: naming both numbers.
    """
    told = told_card(cfg).get("training_images")
    if told and told != len(data.train[1]):
        raise InputError(
            f"data={data.spec.name}: has {len(data.train[1])} training images as it is split here, the classifier was trained on {told}; "
            "name the data and the split that it was trained on"
        )


def _least(label_n: Tensor, classes: int) -> int:
    return int(label_n.bincount(minlength=classes).min())


def _take(split: Split, count_N: Tensor, seed: int) -> Images:
    """So many images of each class, chosen by the seed."""
    source, (images_nCHW, label_n) = torch.Generator().manual_seed(seed), split
    parts = []
    for label, count in enumerate(count_N.tolist()):
        of_class = (label_n == label).nonzero().flatten()
        parts.append(of_class[torch.randperm(len(of_class), generator=source)[:count]])
    return _as_images((images_nCHW[torch.cat(parts)], label_n[torch.cat(parts)]))


def _as_images(split: Split, most: int = LARGEST) -> Images:
    images_nCHW, label_n = split
    chosen = stratified_indices(label_n, min(len(label_n), most), 0)
    return Images(images_nCHW[chosen].float() / 255, label_n[chosen])
