"""A user's own images: an .npz file, or a folder with one folder of pictures per class.

For .npz files, and folders of .npy files, see `netinv_lightning.data.arrays`. A folder may also
contain the folders `train`, `test` and, optionally, `val`, each with one folder of pictures per
class; these are the splits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms import functional as transforms

from netinv_lightning.config.shapes import Size, sides_of, size_of
from netinv_lightning.data.arrays import read_class_names, read_splits
from netinv_lightning.data.class_folders import class_folders, subfolders
from netinv_lightning.data.datasets import Split
from netinv_lightning.data.images_on_disk import loaded
from netinv_lightning.data.labels import check_classes
from netinv_lightning.data.pictures import SUFFIXES, pictures_in, read_picture
from netinv_lightning.data.pixels import LARGEST_LEVEL
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.runs.notices import notice

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names of folders that are splits, not classes."""

PART = 2**24
"""Pixels that are counted at once."""


@dataclass
class OwnImages:
    """A user's images.

    Attributes:
        train: Images [n, C, H, W] and labels [n].
        class_names: N names.
        val: Validation images, if the data have a validation split.
        test: Test images, if the data have a test split.
    """

    train: Split
    class_names: tuple[str, ...]
    val: Split | None = None
    test: Split | None = None


def read_own(
    name: str,
    path: Path,
    image_size: Size | None,
    classes: Sequence[int] | None = None,
    key: str = "data.path",
    modality: str | None = None,
) -> OwnImages:
    """Read the images of `data=npz` or `data=image_folder`.

    Args:
        name: `npz` or `image_folder`.
        path: The file or folder.
        image_size: As for `read_folder`.
        classes: The classes that are used; None for all. Unused classes need no image.
        key: The key that names the path, for messages.
        modality: As for `netinv_lightning.data.arrays.read_splits`.

    Raises:
        InputError: if they cannot be read, or a class that is used has no training image.
    """
    where = f"{key}={path}"
    if name == "npz":
        splits = read_splits(path, key, modality)
        num_classes = check_classes(splits["train"][1].numpy(), where, classes)
        class_names = read_class_names(path, key, num_classes)
        own = OwnImages(splits["train"], class_names, splits.get("val"), splits.get("test"))
    elif folders := _split_folders(path):
        train, class_names = read_folder(folders["train"], image_size, key)
        own = OwnImages(train, class_names)
        for split in folders.keys() - {"train"}:
            images, names = read_folder(folders[split], size_of(train[0].shape[2:]), key)
            if names != class_names:
                raise InputError(
                    f"{where}: {folders[split].name} has the classes {', '.join(names)}, but train "
                    f"has {', '.join(class_names)}; the classes must be the same"
                )
            setattr(own, split, images)
        notice(
            f"{where}: {', '.join(sorted(folder.name for folder in folders.values()))} are read "
            "as splits, not as classes"
        )
    else:
        own = OwnImages(*read_folder(path, image_size, key))
    for other in (own.val, own.test):
        if (
            classes is None
            and other is not None
            and (largest := int(other[1].max())) >= len(own.class_names)
        ):
            raise InputError(
                f"{where}: a validation or test image has the label {largest}, but the training "
                f"labels are 0 to {len(own.class_names) - 1}; add training images of every class"
            )
    return own


def read_npz(
    path: Path, key: str = "data.path", modality: str | None = None
) -> tuple[Split, tuple[str, ...]]:
    """Read the test split of an .npz file, or all of its images if it has no test split.

    Returns:
        Images [n, C, H, W] and labels [n]; and a name per label up to the largest.

    Raises:
        InputError: as `netinv_lightning.data.arrays.read_splits`.
    """
    splits = read_splits(path, key, modality)
    split = splits.get("test", splits["train"])
    return split, tuple(str(label) for label in range(int(split[1].max()) + 1))


def read_folder(
    path: Path, image_size: Size | None, key: str = "data.path"
) -> tuple[Split, tuple[str, ...]]:
    """Read `path/<class name>/<picture>`; crop and resize to `image_size`.

    Without a size, the pictures become squares; the side is the shorter side of the first picture.

    Raises:
        InputError: if there is no such folder, a class is empty, or a picture cannot be read.
    """
    where = f"{key}={path}"
    folders = class_folders(path, where)
    files = [pictures_in(folder, deep=True) for folder in folders]
    if empty := [folder.name for folder, found in zip(folders, files, strict=True) if not found]:
        raise InputError(
            f"{where}: no pictures in {', '.join(empty)} ({', '.join(sorted(SUFFIXES))}); remove "
            "the folder or fill it"
        )
    images: list[Tensor] = []
    for file in (file for found in files for file in found):
        image = read_picture(file, where)
        height, width = sides_of(image_size or min(image.size))
        image_size = size_of((height, width))
        if image.size != (width, height):
            image = transforms.center_crop(
                transforms.resize(image, _shorter_side(image.size, height, width)),
                [height, width],
            )
        images.append(transforms.pil_to_tensor(image))
    label_n = torch.arange(len(folders)).repeat_interleave(
        torch.tensor([len(found) for found in files])
    )
    return (torch.stack(images), label_n), tuple(folder.name for folder in folders)


def _shorter_side(size: tuple[int, int], height: int, width: int) -> int:
    """Return the shorter side of a picture (width, height) before it is cropped."""
    across, down = size
    if across * height < down * width:  # the width fits; the height is cropped
        return -(-min(size) * width // across)
    return -(-min(size) * height // down)


def _split_folders(path: Path) -> dict[str, Path]:
    """Return the folders `train`, `val` and `test`; empty if the folders are classes."""
    if not path.is_dir():
        return {}
    folders = subfolders(path, str(path))
    splits = {SPLITS.get(folder.name.lower(), ""): folder for folder in folders}
    are_splits = "" not in splits and "train" in splits and len(splits) == len(folders) > 1
    have_classes = are_splits and all(subfolders(folder, str(folder)) for folder in folders)
    return splits if have_classes else {}


def describe(
    name: str, split: Split, class_names: tuple[str, ...], others: Sequence[Split] = ()
) -> DataSpec:
    """Return the facts of a training split, with its mean and standard deviation.

    The bounds of signals and tables are the lowest and highest value of each channel in all splits.
    For a constant channel, they are its value minus and plus one.
    """
    images_nCHW, _ = split
    are_images = images_nCHW.dim() == 4
    smallest_std = 1e-3 if are_images else 1e-6
    bounds: list[tuple[float, float]] = []
    if are_images:
        mean_C, std_C = mean_and_std(images_nCHW)
    else:
        along = [0, *range(2, images_nCHW.dim())]
        mean_C, std_C = (of(dim=along).tolist() for of in (images_nCHW.mean, images_nCHW.std))
        every = torch.cat([images_nCHW, *(other[0] for other in others)])
        lowest_C, highest_C = every.amin(dim=along).tolist(), every.amax(dim=along).tolist()
        bounds = [
            (low, high) if low < high else (low - 1, high + 1)
            for low, high in zip(lowest_C, highest_C, strict=True)
        ]
    digits = 4 if are_images else None
    return DataSpec(
        name=name,
        num_classes=len(class_names),
        channels=images_nCHW.shape[1],
        image_size=size_of(images_nCHW.shape[2:]),
        mean=tuple(_rounded(value, digits) for value in mean_C),
        std=tuple(_rounded(max(value, smallest_std), digits) for value in std_C),
        class_names=class_names,
        bounds=tuple(bounds),
    )


def mean_and_std(images_nCHW: Tensor) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation (n - 1) of the pixels of each channel, in [0, 1].

    They are exact: the pixels of each level are counted, a few images at a time.

    Args:
        images_nCHW: uint8 images.
    """
    C, levels_L = images_nCHW.shape[1], torch.arange(LARGEST_LEVEL + 1).double() / LARGEST_LEVEL
    count_CL = torch.zeros(C, LARGEST_LEVEL + 1, dtype=torch.int64)
    size = max(1, PART // max(1, images_nCHW[:1].numel()))
    for part_kCHW in images_nCHW.split(size):
        for channel, pixels_kHW in enumerate(loaded(part_kCHW).unbind(dim=1)):
            count_CL[channel] += pixels_kHW.flatten().bincount(minlength=LARGEST_LEVEL + 1)
    pixels_C = count_CL.sum(dim=1)
    mean_C = (count_CL * levels_L).sum(dim=1) / pixels_C
    square_C = (count_CL * (levels_L - mean_C[:, None]) ** 2).sum(dim=1)
    return mean_C.tolist(), (square_C / (pixels_C - 1)).sqrt().tolist()


def _rounded(value: float, digits: int | None) -> float:
    return value if digits is None else round(value, digits)
