"""Class numbers of images in an .npz file; checked without torch.

Shape suffixes: n images, N classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from netinv_lightning.errors import InputError

if TYPE_CHECKING:
    import numpy as np

LARGEST_LABEL = 99_999
LAYOUTS = (
    {"train": ("X", "y")},
    {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")},
    {"train": ("X_train", "y_train"), "test": ("X_test", "y_test")},
    {
        "train": ("train_images", "train_labels"),
        "val": ("val_images", "val_labels"),
        "test": ("test_images", "test_labels"),
    },
)
"""Names of images and labels in an .npz file, by split; see `netinv_lightning.data.arrays`."""


def check_labels(path: Path, where: str, selected: Sequence[int] | None) -> None:
    """Refuse training labels in an .npz file that are not class numbers from 0 without a gap.

    `netinv_lightning.data.arrays.read_splits` refuses damaged files and unknown layouts later.

    Args:
        path: The file.
        where: The key and its value, for messages.
        selected: As for `check_classes`.

    Raises:
        InputError: beginning with `where`.
    """
    import numpy as np  # slow to import

    from netinv_lightning.data.array_files import array_names, read_array

    try:
        names = {*array_names(path)}
        pairs = [layout["train"] for layout in LAYOUTS if {*layout["train"]} <= names]
        y = read_array(path, pairs[0][1]) if pairs else None
    except Exception:  # NumPy raises many kinds of errors for damaged bytes
        return
    if isinstance(y, np.ndarray) and y.size:
        check_classes(as_labels(y, len(y), where, pairs[0][1]), where, selected)


def as_labels(y: np.ndarray, count: int, where: str, name: str = "y") -> np.ndarray:
    """Return class numbers as int64 [n], from an array [n], [n, 1] or one-hot rows [n, N].

    Raises:
        InputError: if they are not whole numbers from 0, one per image.
    """
    import numpy as np  # slow to import

    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    elif (
        y.ndim == 2
        and y.shape[0] == count
        and y.shape[1] > 1
        and np.isin(y, (0, 1)).all()
        and (y.sum(axis=1) == 1).all()
    ):
        y = y.argmax(axis=1)
    if (
        np.issubdtype(y.dtype, np.floating)
        and y.size
        and np.isfinite(y).all()
        and (y == y.round()).all()
    ):
        y = y.astype(np.int64)
    integers = np.issubdtype(y.dtype, np.integer) or y.dtype == np.bool_
    if y.shape != (count,) or not integers or (y.size and int(y.min()) < 0):
        raise InputError(
            f"{where}: {name} has shape {y.shape} and type {y.dtype}; it must be {count} whole "
            "numbers from 0"
        )
    return y.astype(np.int64)


def check_classes(label_n: np.ndarray, where: str, selected: Sequence[int] | None = None) -> int:
    """Return the number of classes, 1 + the largest label of the training images.

    Args:
        label_n: Labels of the training images.
        where: The key and its value, for messages.
        selected: The classes that are used; None for all. Unused classes may be empty.

    Raises:
        InputError: if a class that is used, up to the largest label, has no image.
    """
    import numpy as np  # slow to import

    if (largest := int(label_n.max())) > LARGEST_LABEL:
        raise InputError(
            f"{where}: the largest label is {largest}, but at most {LARGEST_LABEL} is allowed. "
            "Number the classes from 0 without a gap: y = np.unique(y, return_inverse=True)[1]"
        )
    count_N = np.bincount(label_n)
    if selected is not None:
        for label in selected:
            if 0 <= label < len(count_N) and not count_N[label]:
                raise InputError(
                    f"data.classes={list(selected)}: {where} has no training images of class "
                    f"{label}; leave it out"
                )
        return len(count_N)
    if empty := np.flatnonzero(count_N == 0).tolist():
        named = ", ".join(map(str, empty[:10])) + (", ..." if len(empty) > 10 else "")
        from_0 = "number the classes from 0 without a gap: y = np.unique(y, return_inverse=True)[1]"
        remedy = "subtract 1 from y" if empty == [0] else from_0
        raise InputError(
            f"{where}: no training image has the label {named}, but the largest label is "
            f"{len(count_N) - 1}; {remedy}"
        )
    return len(count_N)
