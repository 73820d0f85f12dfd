"""Images and labels in an .npz file, in common layouts, as uint8 [n, C, H, W] and int64 [n].

A folder with one .npy file per array (X.npy, y.npy) is read like an .npz file. Large images that
are stored uncompressed stay in their file (`netinv_lightning.data.images_on_disk`).

    X, y                                    all images; `val_fraction` is held out for testing
    x_train, y_train, x_test, y_test        Keras: its own splits
    train_images, train_labels, val_images, val_labels, test_images, test_labels
                                            MedMNIST: its own splits

X is [n, H, W], [n, H, W, C] or [n, C, H, W]; the last axis contains the channels if its length is 1
or 3, or the smallest of the three. Integers are from 0 to 255; bool is black and white.
Floating-point numbers are scaled by their range: [0, 1], [-1, 1] or [0, 255]. y contains class
numbers, [n] or [n, 1], or is one-hot, [n, N].

`class_names`, [N] strings, names the classes; without it they are numbers.

Signals (X is [n, C, L] or [n, L]) and tables (X is [n, F]) are read as float32 in their own units.

Shape suffixes: n images, C channels, H height, W width, L length, F features, N classes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from netinv_lightning.data.array_files import Array, array_names, read_array
from netinv_lightning.data.datasets import Split
from netinv_lightning.data.images_on_disk import ImagesOnDisk
from netinv_lightning.data.labels import LAYOUTS, as_labels
from netinv_lightning.data.pixel_ranges import as_uint8, channels_first, pixel_scale
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.runs.notices import notice

Arrays = dict[str, Array]
CLASS_NAMES = "class_names"
IMAGES_AND_LABELS = {name for layout in LAYOUTS for pair in layout.values() for name in pair}


def read_splits(path: Path, key: str, modality: str | None = None) -> dict[str, Split]:
    """Read `train`, and `val` and `test` if the file has them.

    Args:
        path: The file or folder.
        key: The key that names it, for messages.
        modality: `images`, `signals` or `tables`; None for tables if X has two axes, else images.

    Raises:
        InputError: if the file is missing or damaged, or its arrays are not images and labels.
    """
    where = f"{key}={path}"
    arrays = _arrays(path, where)
    layout = next((layout for layout in LAYOUTS if {*layout["train"]} <= {*arrays}), None)
    if layout is None:
        raise InputError(
            f"{where}: contains {sorted(arrays)}, but not {_missing(arrays)}; it must contain "
            "X and y, x_train, y_train, x_test and y_test (Keras), or train_images, train_labels "
            "and "
            "so on (MedMNIST): np.savez(path, X=..., y=...)"
        )
    there = {
        split: pair
        for split, pair in layout.items()
        if {*pair} <= {*arrays} and arrays[pair[0]].size
    }
    values = [arrays[images] for images, _ in there.values()]
    tables = modality is None and all(value.ndim == 2 for value in values)
    modality = "tables" if tables else modality or "images"
    splits = {
        split: (
            as_images(arrays[images], where, images, values)
            if modality == "images"
            else as_values(_whole(arrays[images]), where, images, modality),
            torch.from_numpy(as_labels(_whole(arrays[labels]), len(arrays[images]), where, labels)),
        )
        for split, (images, labels) in there.items()
    }
    if "train" not in splits:
        raise InputError(
            f"{where}: {layout['train'][0]} has shape {arrays[layout['train'][0]].shape}: "
            "it contains no images"
        )
    if len(splits) > 1:
        notice(
            f"{where}: read with its own splits: "
            f"{', '.join(f'{len(split[1])} {name}' for name, split in splits.items())} images"
        )
    if len({split[0].shape[1:] for split in splits.values()}) > 1:
        shapes = ", ".join(f"{name} {tuple(split[0].shape[1:])}" for name, split in splits.items())
        raise InputError(
            f"{where}: its splits have images of several shapes ({shapes}); make them equal"
        )
    return splits


def read_class_names(path: Path, key: str, num_classes: int) -> tuple[str, ...]:
    """Return the names of the classes in the file, or their numbers if it does not name them.

    Raises:
        InputError: if it has a wrong number of names.
    """
    where = f"{key}={path}"
    arrays = _arrays(path, where, {CLASS_NAMES})
    if CLASS_NAMES not in arrays:
        return tuple(str(label) for label in range(num_classes))
    names = _whole(arrays[CLASS_NAMES])
    if names.shape != (num_classes,) or names.dtype.kind != "U":
        raise InputError(
            f"{where}: class_names has the shape {names.shape} and the type {names.dtype}; it must "
            f"contain one string for each of the {num_classes} classes"
        )
    return tuple(str(name) for name in names)


def read_images(path: Path, key: str) -> Tensor:
    """Read images without labels, from the test split if there is one.

    Raises:
        InputError: as `read_splits`.
    """
    where = f"{key}={path}"
    arrays = _arrays(path, where)
    for layout in LAYOUTS:
        for split in ("test", "train"):
            if split in layout and (name := layout[split][0]) in arrays:
                return as_images(arrays[name], where, name)
    raise InputError(
        f"{where}: contains {sorted(arrays)}, but not ['X']; save it with np.savez(path, X=...)"
    )


def _missing(arrays: Arrays) -> list[str]:
    """Return the missing names of the layout that lacks the fewest."""
    return min(
        ([name for name in layout["train"] if name not in arrays] for layout in LAYOUTS), key=len
    )


def _arrays(path: Path, where: str, wanted: Collection[str] = IMAGES_AND_LABELS) -> Arrays:
    """Return the arrays of a file by name; arrays that are not `wanted` are left empty."""
    try:  # pickled arrays, which could run code, are refused
        return {
            name: read_array(path, name) if name in wanted else np.empty(0)
            for name in array_names(path)
        }
    except Exception as error:  # damaged files raise many kinds of errors
        raise InputError(
            f"{where}: cannot be read ({one_line(error)}); it must be an .npz file with X and y, "
            "which must be arrays of numbers"
        ) from error


def as_images(X: Array, where: str, name: str = "X", together: Sequence[Array] = ()) -> Tensor:
    """Return images of any of the layouts and ranges as uint8 [n, C, H, W].

    Images on disk are not read, except to find the range of pixels that are not uint8.

    Args:
        X: The images.
        where: The key and its value, for messages.
        name: Name of the array in the file.
        together: Arrays that have the same range, such as all splits of a file.

    Raises:
        InputError: if they are not images with values in one of the ranges.
    """
    if X.size == 0:
        raise InputError(f"{where}: {name} has shape {X.shape}: it contains no images")
    if X.ndim not in (3, 4):
        raise InputError(
            f"{where}: {name} has shape {X.shape}; it must be images [n, H, W], [n, H, W, C] or "
            "[n, C, H, W]"
        )
    scale = pixel_scale(X, where, name, together or [X])
    if isinstance(X, np.ndarray):
        return as_uint8(X, scale)
    on_disk = X
    shape = channels_first(np.empty((0, *X.shape[1:]), X.dtype)).shape[1:]
    return ImagesOnDisk(
        [(lambda index_k: as_uint8(on_disk.rows(index_k), scale), len(X))],
        torch.arange(len(X)),
        shape,
    )


def _whole(X: Array) -> np.ndarray:
    return X if isinstance(X, np.ndarray) else X.part(slice(None))


def as_values(X: np.ndarray, where: str, name: str, modality: str) -> Tensor:
    """Return signals as float32 [n, C, L], or tables as float32 [n, F], in their units.

    Raises:
        InputError: if the array has another number of axes, or values that are not finite numbers.
    """
    if modality == "signals" and X.ndim == 2:
        X = X[:, None]
    if X.ndim != (3 if modality == "signals" else 2):
        allowed = "[n, C, L] or [n, L]" if modality == "signals" else "[n, features]"
        raise InputError(f"{where}: {name} has shape {X.shape}; {modality} must be {allowed}")
    number = np.issubdtype(X.dtype, np.number) or X.dtype == np.bool_
    if not number or np.iscomplexobj(X) or not np.isfinite(X).all():
        raise InputError(
            f"{where}: {name} is {X.dtype} or contains NaN or infinity; it must be finite numbers"
        )
    return torch.from_numpy(np.ascontiguousarray(X, dtype=np.float32))
