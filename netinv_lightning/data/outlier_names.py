"""Names of outlier sets, checked before torch is imported.

The images themselves: `netinv_lightning.data.outliers`.
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
    """Return the name of a set in results; a user's own is called like its file or folder."""
    return Path(name).stem if is_own(name) else name


def check_outliers(
    name: str,
    inside: str,
    classes: Sequence[int] | None = None,
    train: bool = False,
    key: str = KEY,
) -> None:
    """Check an outlier set before it is read: it is known, not the data itself, and has the split.

    Args:
        name: Of the set, or the path of a user's own images.
        inside: Of the data that the classifier was trained on, `data.name`.
        classes: `data.classes`.
        train: Whether images to train on are wanted.
        key: The key that names the set, for the error.

    Raises:
        InputError: naming the set.
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
        own = "For images of your own name an .npz file with X, or a folder with a / in its name"
        advice = own if name in OWN_IMAGES or Path(name).exists() else ""
        raise InputError(f"{where}: there is no such set; {nearest(name, known, advice)}")
    if same_data(name, inside):
        remedy = (
            "name sets that it was not trained on"
            if classes is None
            else f"for the classes that data.classes leaves out name {LEFT_OUT}"
        )
        raise InputError(f"{where}: is the classifier's own data ({inside}); {remedy}")
    if name == LEFT_OUT and (
        classes is None or (inside in SPECS and len(set(classes)) == SPECS[inside].num_classes)
    ):
        raise InputError(nothing_left_out(inside, key))
    if train and name in STRUCTURED and not STRUCTURED[name][1]:
        raise InputError(
            f"{where}: has no training split; name a set that has one, such as cifar100, "
            "emnist_letters or uniform_noise"
        )


def nothing_left_out(inside: str, key: str = "application.outliers") -> str:
    return (
        f"{key}={LEFT_OUT}: data.classes leaves no images of {inside} out; name some of its "
        "classes, such as 'data.classes=[0,1,2,3,4]'"
    )
