"""Properties of the inputs of a network that is passed to `netinv_lightning.invert`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netinv_lightning.config.shapes import MOST_CHANNELS, SIDES, checked_shape, sides_of
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError


def _pairs(bounds: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    """Return the bounds as pairs of numbers.

    Raises:
        InputError: if they are not pairs of numbers.
    """
    try:
        return tuple((float(low), float(high)) for low, high in bounds)
    except (TypeError, ValueError):
        raise InputError(
            f"bounds={bounds!r}: must be pairs (lowest, highest), one per channel"
        ) from None


def own_shape(
    shape: Sequence[int] | None, channels: int | None, image_size: int | Sequence[int] | None
) -> Sequence[int]:
    """Return the shape that the arguments of `invert` describe.

    Raises:
        InputError: if they are incomplete, contradict each other, or are out of range.
    """
    if shape is not None:
        if channels is not None or image_size is not None:
            raise InputError(
                f"shape={shape!r}: already contains the channels and the size; leave out channels "
                "and image_size"
            )
        return shape
    if channels is None or image_size is None:
        raise InputError(
            "shape: must be given: (features,) for tables, (C, L) for signals, (C, H, W) for "
            "images; or channels and image_size for images"
        )
    _check_whole("channels", channels, 1, MOST_CHANNELS)
    is_pair = isinstance(image_size, Sequence) and len(image_size) == 2
    for side in image_size if is_pair and isinstance(image_size, Sequence) else [image_size]:
        _check_whole("image_size", side, *SIDES["images"])
    return channels, *sides_of(image_size)


def _check_whole(name: str, value: Any, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise InputError(f"{name}={value!r}: must be a whole number from {least} to {most}")


def own_spec(
    num_classes: int,
    shape: Sequence[int],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    bounds: Sequence[Sequence[float]] = (),
    groups: Sequence[Sequence[int]] = (),
) -> DataSpec:
    """Return the properties of a network's inputs; for the arguments see `netinv_lightning.invert`.

    Raises:
        InputError: if an argument is out of range.
    """
    _check_whole("num_classes", num_classes, 2, 10**6)
    channels, image_size = checked_shape(shape, "shape")
    zeros, ones = (0.0,) * channels, (1.0,) * channels
    labels = tuple(str(label) for label in range(num_classes))
    try:
        mean, std = (
            tuple(map(float, default if given is None else given))
            for given, default in ((mean, zeros), (std, ones))
        )
    except (TypeError, ValueError) as error:
        raise InputError(
            f"mean={mean}, std={std}: must be {channels} numbers each, one per channel"
        ) from error
    return DataSpec(
        name="own",
        num_classes=num_classes,
        channels=channels,
        image_size=image_size,
        mean=mean,
        std=std,
        class_names=labels,
        bounds=_pairs(bounds),
        groups=tuple(tuple(group) for group in groups),
    )
