"""The LightningDataModule of all data sets: uint8 images, augmented on the device.

Shape suffixes: B batch, n images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from netinv_lightning.config.shapes import Size, sides_of, size_of
from netinv_lightning.data.augmentation import shift_and_flip
from netinv_lightning.data.batches import WHOLE, Batches, Share, TrainingBatches
from netinv_lightning.data.datasets import LOADERS, Split
from netinv_lightning.data.pixels import from_units, to_unit_range, to_units
from netinv_lightning.data.specs import (
    OWN_IMAGES,
    SPECS,
    DataSpec,
    check_name,
    check_shift,
    own_images_path,
    spec_of_classes,
)
from netinv_lightning.data.splits import split_by_class, stratified_indices
from netinv_lightning.data.user_files import describe, read_folder, read_npz, read_own
from netinv_lightning.errors import InputError
from netinv_lightning.training.seeds import random_order


class ImageDataModule(L.LightningDataModule):
    """Images of one data set, split into train, validation (cut from the training images) and test.

    The model gets batches of float images in [0, 1], [B, C, H, W], and labels, [B]; the classifier
    normalises them. `unused` contains the validation images and the training images that the subset
    leaves out.

    Args:
        name: A name of `netinv_lightning.data.datasets.LOADERS`; `npz` or `image_folder` for a
            user's own images.
        root: Folder of the data sets, in the layout of torchvision.
        path: The file or folder of a user's own images (`netinv_lightning.data.user_files`).
        test_path: File or folder of a user's own test images; None for the test split of `path`. If
            it has none, `val_fraction` of `path` is held out for testing.
        classes: Use the images of these classes only, with labels 0 to k-1 in this order; None for
            all. The images of the other classes are `left_out_train` and `left_out_test`, with
            their original labels.
        batch_size: Images per batch, over all processes of a Trainer.
        val_fraction: Share of the training images held out for validation, in [0, 1). A user's own
            validation split is used instead if there is one.
        subset_size: Train on this number of images, stratified by class; None for all.
        split_seed: Seed of the validation split and of the subset.
        shift: Largest random shift in pixels, for augmentation.
        flip: Mirror half of the images, for augmentation.
        image_size: Side to which the images of an `image_folder` are resized, or (height, width);
            None for the side of the first image.
        modality: Content of an .npz file: `images`, `signals` or `tables`; None for tables if X has
            two axes, else images. Signals and tables are scaled to [0, 1] by the limits of `spec`.

    Raises:
        InputError: if the data are missing or a value is out of range.
    """

    def __init__(
        self,
        name: str,
        root: str = "data",
        path: str | None = None,
        test_path: str | None = None,
        classes: Sequence[int] | None = None,
        batch_size: int = 256,
        val_fraction: float = 0.1,
        subset_size: int | None = None,
        split_seed: int = 0,
        shift: int = 0,
        flip: bool = False,
        image_size: int | Sequence[int] | None = None,
        modality: str | None = None,
    ) -> None:
        super().__init__()
        self.batch_size, self.shift, self.flip, self.classes = batch_size, shift, flip, classes
        if batch_size < 2:
            raise InputError(
                f"data.batch_size={batch_size}: must be 2 or more; BatchNorm has no statistics "
                "for one image"
            )
        if not 0 <= val_fraction < 1:
            raise InputError(f"data.val_fraction={val_fraction}: must be at least 0 and below 1")
        check_name(name)
        if name in OWN_IMAGES:
            train, own_val, test, self.spec = _own_images(
                name,
                path,
                test_path,
                None if image_size is None else size_of(sides_of(image_size)),
                classes,
                val_fraction,
                split_seed,
                modality,
            )
        else:
            train, own_val, test = (
                LOADERS[name](Path(root), True),
                None,
                LOADERS[name](Path(root), False),
            )
            self.spec = SPECS[name]
        self.left_out_train, self.left_out_test = _none_of(train), _none_of(test)
        if classes is not None:
            self.spec = spec_of_classes(self.spec, classes)
            train, self.left_out_train = split_by_class(train, classes)
            test, self.left_out_test = split_by_class(test, classes)
            own_val = None if own_val is None else split_by_class(own_val, classes)[0]
            for label, count in zip(
                classes, train[1].bincount(minlength=len(classes)).tolist(), strict=True
            ):
                if not count:
                    raise InputError(
                        f"data.classes={list(classes)}: {self.spec.name} has no training images of "
                        f"class {label}; leave it out"
                    )
        if (shift or flip) and self.spec.modality != "images":
            raise InputError(
                f"data.shift={shift}, data.flip={flip}: require images, but the data are "
                f"{self.spec.modality}; leave them out"
            )
        check_shift(shift, self.spec.image_size)

        if own_val is None:
            self.val_indices = stratified_indices(
                train[1], round(len(train[1]) * val_fraction), split_seed
            )
        else:  # the validation images follow the training images
            self.val_indices = len(train[1]) + torch.arange(len(own_val[1]))
            train = torch.cat([train[0], own_val[0]]), torch.cat([train[1], own_val[1]])
        labels_n = train[1]
        n = len(labels_n)
        held_out_n = torch.zeros(n, dtype=torch.bool)
        held_out_n[self.val_indices] = True
        remaining = (~held_out_n).nonzero().flatten()
        if subset_size is not None:
            if not 2 <= subset_size <= len(remaining):  # BatchNorm has no statistics of one image
                raise InputError(
                    f"data.subset_size={subset_size}: must be from 2 to {len(remaining)}, the {n} "
                    f"training images of {name} "
                    f"without the share data.val_fraction={val_fraction}"
                )
            remaining = remaining[stratified_indices(labels_n[remaining], subset_size, split_seed)]
        self.train_indices = remaining
        self.train = _take(train, self.train_indices)
        self.val = _take(train, self.val_indices)
        self.test = test
        unused_n = torch.ones(n, dtype=torch.bool)
        unused_n[self.train_indices] = False
        self.unused = _take(train, unused_n)
        self._batches: TrainingBatches | None = None
        self._earlier: dict[str, Any] | None = None

    def use_limits_of(self, spec: DataSpec) -> None:
        """Rescale signals and tables to [0, 1] by the limits of a classifier instead of the data's.

        Values outside the limits are clipped.
        """
        if self.spec.limits == spec.limits:
            return
        for name in ("train", "val", "test", "unused", "left_out_train", "left_out_test"):
            x_n, label_n = getattr(self, name)
            moved_n = from_units(to_units(x_n, self.spec), spec).clamp(0, 1)
            setattr(self, name, (moved_n, label_n))
        self.spec = replace(self.spec, bounds=spec.limits)

    @property
    def _share(self) -> Share:
        """The share of each batch that this process gets from the Trainer's processes."""
        if self.trainer is None:
            return WHOLE
        return self.trainer.global_rank, self.trainer.world_size

    def train_dataloader(self) -> Batches:
        if self.trainer is not None and self.trainer.overfit_batches:  # type: ignore[attr-defined]
            # The same batches in every epoch; data sets may be sorted by class.
            order_n = random_order(len(self.train[1]), seed=0)
            return Batches(_take(self.train, order_n), self.batch_size, False, True, self._share)
        # BatchNorm has no statistics for a last batch of one image.
        self._batches, self._earlier = (
            TrainingBatches(self.train, self.batch_size, self._earlier, self._share),
            None,
        )
        return self._batches

    def state_dict(self) -> dict[str, Any]:
        """Return the part of a checkpoint that Lightning stores for the data."""
        return (
            {}
            if self._batches is None or self.trainer is None
            else self._batches.state(self.trainer.is_last_batch)
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._earlier = state_dict or None

    def val_dataloader(self) -> Batches:
        return Batches(self.val, 1000, shuffle=False, share=self._share)

    def test_dataloader(self) -> Batches:
        return Batches(self.test, 1000, shuffle=False, share=self._share)

    def on_after_batch_transfer(
        self, batch: tuple[Tensor, Tensor], dataloader_idx: int
    ) -> tuple[Tensor, Tensor]:
        return self.prepare_batch(batch, self.trainer is not None and self.trainer.training)

    def prepare_batch(self, batch: Split, training: bool) -> Split:
        """Return a batch with images in [0, 1], augmented in training."""
        images_BCHW, labels_B = to_unit_range(batch[0]), batch[1]
        if training:
            images_BCHW = shift_and_flip(images_BCHW, self.shift, self.flip, share=self._share)
        return images_BCHW, labels_B


def _take(split: Split, indices: Tensor) -> Split:
    return split[0][indices], split[1][indices]


def _in_unit_range(split: Split, spec: DataSpec) -> Split:
    return from_units(split[0], spec).clamp(0, 1), split[1]


def _none_of(split: Split) -> Split:
    return split[0][:0], split[1][:0]


def _own_images(
    name: str,
    path: str | None,
    test_path: str | None,
    size: Size | None,
    classes: Sequence[int] | None,
    test_fraction: float,
    seed: int,
    modality: str | None,
) -> tuple[Split, Split | None, Split, DataSpec]:
    """Return training, validation and test images, and the facts of the training images."""
    own_path = own_images_path(name, path)
    own = read_own(name, own_path, size, classes, modality=modality)
    train, test, class_names = own.train, own.test, own.class_names
    if test_path is not None:
        key = "data.test_path"
        size = size_of(train[0].shape[2:])
        test, test_names = (
            read_npz(Path(test_path), key, modality)
            if name == "npz"
            else read_folder(Path(test_path), size, key)
        )
        if (name == "image_folder" and test_names != class_names) or (
            classes is None and len(test_names) > len(class_names)
        ):
            raise InputError(
                f"data.test_path={test_path}: its classes are {', '.join(test_names)}, but those "
                f"of data.path are {', '.join(class_names)}; they must match"
            )
        if test[0].shape[1:] != train[0].shape[1:]:
            raise InputError(
                f"data.test_path={test_path}: its inputs are {tuple(test[0].shape[1:])}, but "
                f"those of data.path are {tuple(train[0].shape[1:])}; they must match"
            )
    if test is None:
        chosen = stratified_indices(train[1], round(len(train[1]) * test_fraction), seed + 1)
        rest_n = torch.ones(len(train[1]), dtype=torch.bool)
        rest_n[chosen] = False
        train, test = _take(train, rest_n.nonzero().flatten()), _take(train, chosen)
    splits = [split for split in (own.val, test) if split is not None]
    spec = describe(own_path.stem, train, class_names, splits)
    if spec.modality == "images":
        return train, own.val, test, spec
    val = None if own.val is None else _in_unit_range(own.val, spec)
    return _in_unit_range(train, spec), val, _in_unit_range(test, spec), spec
