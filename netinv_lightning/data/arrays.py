"""Images and labels in an .npz file, in common layouts, as uint8 [n, C, H, W] and int64 [n].

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

from netinv_lightning.data.datasets import Split
from netinv_lightning.data.labels import LAYOUTS, as_labels
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.runs.notices import notice

Arrays = dict[str, np.ndarray]
CLASS_NAMES = "class_names"
IMAGES_AND_LABELS = {name for layout in LAYOUTS for pair in layout.values() for name in pair}
RANGES = (("0 to 1", 0.0, 1.0), ("-1 to 1", -1.0, 1.0), ("0 to 255", 0.0, 255.0))
"""Ranges of floating-point pixels, lowest and highest value; the first that fits is used."""


def read_splits(path: Path, key: str, modality: str | None = None) -> dict[str, Split]:
    """Read `train`, and `val` and `test` if the file has them.

    Args:
        path: The file.
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
            else as_values(arrays[images], where, images, modality),
            torch.from_numpy(as_labels(arrays[labels], len(arrays[images]), where, labels)),
        )
        for split, (images, labels) in there.items()
    }
    if "train" not in splits:
        raise InputError(
            f"{where}: {layout['train'][0]} has shape {arrays[layout['train'][0]].shape}: it "
            "contains "
            "no images"
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
    names = _arrays(path, where, {CLASS_NAMES}).get(CLASS_NAMES)
    if names is None:
        return tuple(str(label) for label in range(num_classes))
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
    try:
        with (
            path.open("rb") as file,
            np.load(file, allow_pickle=False) as content,
        ):  # pickled arrays could run code
            return {
                name: content[name] if name in wanted else np.empty(0) for name in content.files
            }
    except Exception as error:  # damaged files raise many kinds of errors
        raise InputError(
            f"{where}: cannot be read ({one_line(error)}); it must be an .npz file with X and y, "
            "which must be arrays of numbers"
        ) from error


def as_images(
    X: np.ndarray, where: str, name: str = "X", together: Sequence[np.ndarray] = ()
) -> Tensor:
    """Return images of any of the layouts and ranges as uint8 [n, C, H, W].

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
    if X.ndim == 3:
        X = X[:, None]
    elif X.ndim == 4 and (X.shape[3] in (1, 3) or X.shape[3] < min(X.shape[1:3])):
        X = X.transpose(0, 3, 1, 2)
    if X.ndim != 4:
        raise InputError(
            f"{where}: {name} has shape {X.shape}; it must be images [n, H, W], [n, H, W, C] or "
            "[n, C, H, W]"
        )
    return torch.from_numpy(np.ascontiguousarray(_bytes(X, where, name, together or [X])))


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


def _of_signals(X: np.ndarray) -> str:
    """Return what to do if numbers that are no pixels may be signals."""
    return "; for signals [n, C, L] set data.modality=signals" if X.ndim == 3 else ""


def _bytes(X: np.ndarray, where: str, name: str, together: Sequence[np.ndarray]) -> np.ndarray:
    if X.dtype == np.uint8:
        return X
    if X.dtype == np.bool_:
        return X.astype(np.uint8) * 255
    if not np.issubdtype(X.dtype, np.number) or np.iscomplexobj(X) or not np.isfinite(X).all():
        raise InputError(
            f"{where}: {name} is {X.dtype} or contains NaN or infinity; it must be uint8, 0 to "
            "255, "
            "or finite numbers"
        )
    least, most = (
        min(float(part.min()) for part in together),
        max(float(part.max()) for part in together),
    )
    integer = np.issubdtype(X.dtype, np.integer)
    ranges = RANGES[2:] if integer else RANGES
    found = next(
        ((label, low, high) for label, low, high in ranges if low <= least and most <= high), None
    )
    if found is None or (integer and most <= 1):
        allowed = "0 to 255" if integer else ", ".join(label for label, _, _ in RANGES)
        raise InputError(
            f"{where}: {name} is {X.dtype} with values from {least:.6g} to {most:.6g}; the range "
            f"must be {allowed}; "
            "scale it, and save it as uint8, 0 to 255" + _of_signals(X)
        )
    label, low, high = found
    notice(
        f"{where}: {name} is {X.dtype} with values from {least:.4g} to {most:.4g}, read as pixels "
        f"of the range {label}"
    )
    return ((X.astype(np.float64) - low) * (255 / (high - low))).round().astype(np.uint8)
