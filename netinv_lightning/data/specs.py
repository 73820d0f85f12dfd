"""Facts of data sets that inversion needs: shapes and statistics, never images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from netinv_lightning.errors import InputError, nearest


@dataclass(frozen=True)
class DataSpec:
    """Facts of a data set.

    Attributes:
        name: The data set's name, as in `data=<name>`.
        num_classes: Number of labels, N.
        channels: 1 (grey) or 3 (RGB).
        image_size: Side of the square images, in pixels.
        mean: Mean of the training images per channel, of pixels in [0, 1].
        std: Standard deviation of the same.
        class_names: One name per label.
        note: Remark for readers of results, such as that only a part of the set is used.
    """

    name: str
    num_classes: int
    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    note: str = ""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.channels, self.image_size, self.image_size

    def as_dict(self) -> dict[str, Any]:
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }


_DIGITS = tuple("0123456789")
_SVHN_HEAD = "only the first 4,434 training and 1,952 test images of SVHN (cropped digits)"

MNIST = DataSpec("mnist", 10, 1, 28, (0.1307,), (0.3081,), _DIGITS)
FASHION_MNIST = DataSpec(
    "fashion_mnist", 10, 1, 28, (0.2860,), (0.3530,),
    ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
     "ankle boot"),
)  # fmt: skip
# Mean and std of the whole training set, also for its parts.
SVHN = DataSpec("svhn", 10, 3, 32, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), _DIGITS)
CIFAR10 = DataSpec(
    "cifar10", 10, 3, 32, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616),
    ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)  # fmt: skip
CIFAR100 = DataSpec(
    "cifar100", 100, 3, 32, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762),
    tuple(str(label) for label in range(100)),
)  # fmt: skip
MNIST5K = DataSpec(
    "mnist5k", 10, 1, 28, (0.1307,), (0.3081,), _DIGITS, "5,000 digits of MNIST, 500 per class"
)


def _named(spec: DataSpec, name: str, note: str) -> DataSpec:
    return DataSpec(**{**asdict(spec), "name": name, "note": note})


def spec_of_classes(spec: DataSpec, classes: Sequence[int]) -> DataSpec:
    """Return the facts of some classes only; their labels become 0 to k-1 in the given order.

    Mean and standard deviation are those of the whole training set. `note` lists the classes.

    Raises:
        InputError: for an unknown class, one that is named twice, or fewer than 2 classes.
    """
    key, N = f"data.classes={list(classes)}", spec.num_classes
    for position, label in enumerate(classes):
        if not 0 <= label < N:
            raise InputError(
                f"{key}: {spec.name} has no class {label}; its classes are 0 to {N - 1}"
            )
        if label in classes[:position]:
            raise InputError(f"{key}: names class {label} twice; name each class once")
    if len(classes) < 2:
        raise InputError(
            f"{key}: must name 2 classes or more of {spec.name}, or be left out for all {N}"
        )
    part = f"only its classes {', '.join(str(label) for label in classes)}"
    return replace(
        spec,
        num_classes=len(classes),
        class_names=tuple(spec.class_names[label] for label in classes),
        note=f"{spec.note}; {part}" if spec.note else part,
    )


_CLEAN = (
    "images whose left and right borders hold no second digit "
    "(rule: netinv_lightning/data/datasets.py)"
)

SPECS: dict[str, DataSpec] = {
    spec.name: spec
    for spec in (
        MNIST,
        FASHION_MNIST,
        SVHN,
        _named(SVHN, "svhn_head", _SVHN_HEAD),
        _named(SVHN, "svhn_clean", _CLEAN),
        _named(SVHN, "svhn_head_clean", f"{_SVHN_HEAD}, {_CLEAN}"),
        CIFAR10,
        CIFAR100,
        _named(
            CIFAR100,
            "cifar100_subset",
            "10,000 training and 5,000 test images of CIFAR-100, 100 and 50 per class",
        ),
        MNIST5K,
    )
}
"""Facts of the data sets that the project knows by name."""

OWN_IMAGES = ("npz", "image_folder")
"""Names of `data` for a user's own images."""

_SVHN_HEAD_FILE = "{split}_32x32.head.mat"
ON_DISK = {
    "svhn_head": _SVHN_HEAD_FILE,
    "svhn_head_clean": _SVHN_HEAD_FILE,
    "cifar100_subset": "cifar100_subset_{split}.npz",
}
"""Files of the data sets that are never downloaded, below `data.root`; `split` is train or test."""


def missing_file(name: str, root: Path, path: Path) -> str:
    """Return the message for a file of `ON_DISK` that is missing."""
    whole = "svhn" if name.startswith("svhn") else "cifar100"
    return (
        f"data.root={root}: {path.absolute()} is missing. It contains a part of {whole}; set "
        f"NETINV_DATA or data.root to its folder, or use the whole set: data={whole}"
    )


def check_name(name: str) -> None:
    """Check that `data` names a known data set or a kind of a user's own images.

    Raises:
        InputError: suggesting the closest name.
    """
    if name not in (known := [*SPECS, *OWN_IMAGES]):
        raise InputError(f"data.name={name}: no such data set; {nearest(name, known)}")


def check_shift(shift: int, image_size: int) -> None:
    """Check that the random shift of the augmentation is smaller than the images.

    Raises:
        InputError: if it is not.
    """
    if not 0 <= shift < image_size:
        raise InputError(
            f"data.shift={shift}: must be from 0 to below {image_size}, the side of the images"
        )


def own_images_path(name: str, path: str | None) -> Path:
    """Return the path of a user's own images.

    Raises:
        InputError: if none is given.
    """
    if path is None:
        kind = (
            "an .npz file with X and y"
            if name == "npz"
            else "a folder with one folder of pictures per class"
        )
        raise InputError(f"data.path: must name {kind} for data={name}")
    return Path(path)


SAME = (
    ("mnist", "mnist5k"),
    ("svhn", "svhn_head", "svhn_clean", "svhn_head_clean"),
    ("cifar100", "cifar100_subset"),
)
"""Groups of names for the same data, or for parts of it."""


def same_data(one: str, other: str) -> bool:
    """Return whether two names denote the same data, or parts of it that may share images."""
    return one == other or any(one in family and other in family for family in SAME)
