"""Names of outlier sets, checked before torch is imported.

The images are read in `netinv_lightning.data.outliers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from netinv_lightning.data.specs import OWN_IMAGES, SPECS, same_data
from netinv_lightning.errors import InputError, nearest

KEY = "application.outliers"
LEFT_OUT = "left_out"
"""Name of the set of the classes that `data.classes` leaves out."""
NOISE_SETS = ("gaussian_noise", "uniform_noise")
LETTERS = "emnist_letters"
STRUCTURED: dict[str, tuple[str, bool]] = {
    "lsun_crop": ("LSUNCrop", False),
    "lsun_resize": ("LSUNResize", False),
    "textures": ("Textures", False),
    "tiny_imagenet": ("TinyImageNet", True),
    "places365": ("Places365", False),
}
"""Classes of `pytorch_ood.dataset.img`, and whether they have a training split."""


def is_own(name: str) -> bool:
    """Return whether a set is a user's own: an .npz file with X, or a folder such as `photos/`."""
    return name.endswith(".npz") or "/" in name


def called(name: str) -> str:
    """Return the name of a set in results; for a user's own set, that of its file or folder."""
    return Path(name).stem if is_own(name) else name


def check_outliers(
    name: str,
    inside: str,
    classes: Sequence[int] | None = None,
    train: bool = False,
    key: str = KEY,
) -> None:
    """Check the name of an outlier set before its images are read.

    Args:
        name: Name of the set, or path of a user's own images.
        inside: Name of the data that the classifier was trained on, `data.name`.
        classes: `data.classes`.
        train: Whether the training split of the set is needed.
        key: The key that names the set, for the error.

    Raises:
        InputError: if the set is unknown, is the classifier's own data, or lacks the split.
    """
    where = f"{key}={name}"
    if is_own(name):
        if not Path(name).exists():
            raise InputError(
                f"{where}: there is no such file or folder (looked for {Path(name).absolute()})"
            )
        return
    known = [*NOISE_SETS, *SPECS, LETTERS, *STRUCTURED, LEFT_OUT]
    if name not in known:
        own = "For your own images give an .npz file with X, or a folder with a / in its name"
        advice = own if name in OWN_IMAGES or Path(name).exists() else ""
        raise InputError(f"{where}: there is no such set; {nearest(name, known, advice)}")
    if same_data(name, inside):
        remedy = (
            "choose other sets"
            if classes is None
            else f"for the other classes of {inside} choose {LEFT_OUT}"
        )
        raise InputError(f"{where}: is the classifier's own data ({inside}); {remedy}")
    if name == LEFT_OUT and (
        classes is None or (inside in SPECS and len(set(classes)) == SPECS[inside].num_classes)
    ):
        raise InputError(nothing_left_out(inside, key))
    if train and name in STRUCTURED and not STRUCTURED[name][1]:
        raise InputError(
            f"{where}: has no training split; choose a set with one, such as cifar100, "
            "emnist_letters or uniform_noise"
        )


def nothing_left_out(inside: str, key: str = "application.outliers") -> str:
    return (
        f"{key}={LEFT_OUT}: data.classes does not leave out any class of {inside}; list "
        "fewer classes, such as 'data.classes=[0,1,2,3,4]'"
    )
