"""The classes that `application.classes` chooses."""

from __future__ import annotations

from collections.abc import Sequence

from netinv_lightning.errors import InputError


def chosen_classes(
    classes: Sequence[int] | None, num_classes: int, multi_label: bool
) -> list[int] | None:
    """Return `application.classes`; None for all.

    Args:
        classes: The value of the key; None or empty for all.
        num_classes: Number of classes of the network.
        multi_label: Whether the network is multi-label.

    Raises:
        InputError: if the network has no such class, or one is named twice.
    """
    if not classes:
        return None
    if multi_label:
        raise InputError(
            f"application.classes={list(classes)}: needs one label per image, but this network is "
            "multi-label. Leave it out"
        )
    for position, label in enumerate(classes):
        fault = (
            f"has no class {label}; its classes are 0 to {num_classes - 1}"
            if not 0 <= label < num_classes
            else f"names class {label} twice; name each class once"
            if label in classes[:position]
            else ""
        )
        if fault:
            raise InputError(f"application.classes={list(classes)}: {fault}")
    if len(classes) < 2:
        raise InputError(
            f"application.classes={list(classes)}: must name 2 classes or more, or be left out for "
            f"all {num_classes}"
        )
    return list(classes)
