"""Specifications of data sets for inversion: shapes and statistics, but no images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from netinv_lightning.config.shapes import Size, modality_of, sides_of, size_of
from netinv_lightning.errors import InputError, nearest

DEVIATIONS = 5
"""Range in which signals and tables are generated: the mean plus and minus this number of standard
deviations."""


UNITS = {"num_classes": "classes", "channels": "channels", "image_size": "pixels per side"}
"""The required facts of a spec, and their units in messages."""


@dataclass(frozen=True)
class DataSpec:
    """Facts of a data set.

    Attributes:
        name: The data set's name, as in `data=<name>`.
        num_classes: Number of labels, N.
        channels: 1 for grey images, 3 for RGB, or any other number; for tables, the number of
            features.
        image_size: Side of square images in pixels; else the sides: (H, W) of images, (L,) of
            signals, () of tables.
        mean: Mean of the training images per channel, of pixels in [0, 1].
        std: Standard deviation of these pixels, per channel.
        class_names: One name per label.
        note: Note on the results, for example that only a part of the data set is used.
        bounds: Lowest and highest value of each channel. Empty for the defaults: 0 and 1 for images
            and one-hot features, else the mean minus and plus five standard deviations.
        groups: Features of tables that are the one-hot code of one categorical variable.

    All computations use inputs in [0, 1], where 0 is the lowest value of a channel and 1 the
    highest.
    """

    name: str
    num_classes: int
    channels: int
    image_size: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    note: str = ""
    bounds: tuple[tuple[float, float], ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        # Convert the size to one form, so that specs from files and from code compare equal.
        object.__setattr__(self, "image_size", size_of(self.sides))
        for name in ("bounds", "groups"):
            object.__setattr__(self, name, tuple(tuple(part) for part in getattr(self, name)))

    @property
    def sides(self) -> tuple[int, ...]:
        """(H, W) of images, (L,) of signals, () of tables."""
        return sides_of(self.image_size)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input: (C, H, W), (C, L) or (features,)."""
        return self.channels, *self.sides

    @property
    def modality(self) -> str:
        """`images`, `signals` or `tables`."""
        return modality_of(self.sides)

    @property
    def limits(self) -> tuple[tuple[float, float], ...]:
        """Lowest and highest value of each channel; computations map them to 0 and 1."""
        if self.bounds or self.modality == "images":
            return self.bounds or ((0.0, 1.0),) * self.channels
        one_hot = {feature for group in self.groups for feature in group}
        return tuple(
            (0.0, 1.0) if feature in one_hot else (mean - DEVIATIONS * std, mean + DEVIATIONS * std)
            for feature, (mean, std) in enumerate(zip(self.mean, self.std, strict=True))
        )

    @property
    def unit_mean(self) -> tuple[float, ...]:
        """Mean per channel of inputs in [0, 1]."""
        return tuple(
            (mean - low) / (high - low)
            for mean, (low, high) in zip(self.mean, self.limits, strict=True)
        )

    @property
    def unit_std(self) -> tuple[float, ...]:
        """Standard deviation per channel of inputs in [0, 1]."""
        return tuple(
            std / (high - low) for std, (low, high) in zip(self.std, self.limits, strict=True)
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
            if value or key not in ("bounds", "groups")
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
MNIST14 = DataSpec(
    "mnist14", 10, 1, 14, (0.1307,), (0.2801,), _DIGITS, "MNIST, each pixel the mean of 2 x 2"
)
DIGITS = DataSpec(
    "digits", 10, 1, 8, (0.3053,), (0.3762,), _DIGITS,
    "1,797 digits of scikit-learn, of which every fifth is a test image",
)  # fmt: skip


def _named(spec: DataSpec, name: str, note: str) -> DataSpec:
    return DataSpec(**{**asdict(spec), "name": name, "note": note})


def spec_of_classes(spec: DataSpec, classes: Sequence[int]) -> DataSpec:
    """Return the spec of a subset of classes; their labels become 0 to k-1 in the given order.

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
            f"{key}: must list 2 or more classes of {spec.name}; leave it out to use all {N}"
        )
    part = f"only its classes {', '.join(str(label) for label in classes)}"
    return replace(
        spec,
        num_classes=len(classes),
        class_names=tuple(spec.class_names[label] for label in classes),
        note=f"{spec.note}; {part}" if spec.note else part,
    )


_CLEAN = (
    "images whose left and right borders contain no second digit "
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
        MNIST14,
        DIGITS,
    )
}
"""Facts of the data sets that the project knows by name."""

OWN_IMAGES = ("npz", "image_folder")
"""Values of `data` for a user's own images."""

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


def require_images(spec: DataSpec, key: str) -> None:
    """Check that a classifier takes images; `key` is the setting that needs them.

    Raises:
        InputError: if it takes signals or tables.
    """
    if spec.modality != "images":
        raise InputError(f"{key}: requires a classifier of images; this one takes {spec.modality}")


def check_name(name: str) -> None:
    """Check that `data` names a known data set or a kind of a user's own images.

    Raises:
        InputError: suggesting the closest name.
    """
    if name not in (known := [*SPECS, *OWN_IMAGES]):
        raise InputError(f"data.name={name}: no such data set; {nearest(name, known)}")


def check_shift(shift: int, image_size: Size) -> None:
    """Check that the random shift of the augmentation is smaller than the images.

    Raises:
        InputError: if it is not.
    """
    side = min(sides_of(image_size), default=1)
    if not 0 <= shift < side:
        raise InputError(
            f"data.shift={shift}: must be at least 0 and below {side}, the side of the images"
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
    ("mnist", "mnist5k", "mnist14"),
    ("svhn", "svhn_head", "svhn_clean", "svhn_head_clean"),
    ("cifar100", "cifar100_subset"),
)
"""Groups of names for the same data, or for parts of it."""


def same_data(one: str, other: str) -> bool:
    """Return whether two names denote the same data, or parts of it that may share images."""
    return one == other or any(one in family and other in family for family in SAME)
