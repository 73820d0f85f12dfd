"""What inversion has to know about a data set: its shape and statistics, never its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from netinv_lightning.errors import InputError


@dataclass(frozen=True)
class DataSpec:
    """Facts of a data set.

    Attributes:
        name: The data set's name, as in `data=<name>`.
        num_classes: Number of labels, N.
        channels: 1 (gray) or 3 (RGB).
        image_size: Side of the square images, in pixels.
        mean: Mean of the training images per channel, of pixels in [0, 1].
        std: Standard deviation of the same.
        class_names: One name a label.
        note: What a reader of a result must know, such as that only a part of the set was at hand.
    """

    name: str
    num_classes: int
    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    note: str = ""

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
    ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
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
    "mnist5k", 10, 1, 28, (0.1307,), (0.3081,), _DIGITS, "5,000 digits of MNIST, 500 a class"
)


def _named(spec: DataSpec, name: str, note: str) -> DataSpec:
    return DataSpec(**{**asdict(spec), "name": name, "note": note})


def spec_of_classes(spec: DataSpec, classes: Sequence[int]) -> DataSpec:
    """Facts of the images of some classes only, which become the labels 0 to k-1 in the order given.

    Mean and standard deviation stay those of the whole training set, as for other parts of a set. `note` tells the classes.

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


_CLEAN = "images whose left and right borders hold no second digit (rule: netinv_lightning/data/datasets.py)"

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
            "10,000 training and 5,000 test images of CIFAR-100, 100 and 50 a class",
        ),
        MNIST5K,
    )
}
"""Facts of the data sets that the project knows by name."""

OWN_IMAGES = ("npz", "image_folder")
"""Names of `data` for a user's own images."""

SAME = (
    ("mnist", "mnist5k"),
    ("svhn", "svhn_head", "svhn_clean", "svhn_head_clean"),
    ("cifar100", "cifar100_subset"),
)
"""Names of one and the same data, or of parts of it."""


def same_data(one: str, other: str) -> bool:
    """Whether two names stand for the same data, or for parts of it, which may share images."""
    return one == other or any(one in family and other in family for family in SAME)
