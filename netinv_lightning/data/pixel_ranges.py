"""Conversion of pixels of common layouts and ranges to uint8 [n, C, H, W].

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from netinv_lightning.data.array_files import Array
from netinv_lightning.errors import InputError
from netinv_lightning.runs.notices import notice

PART = 2**22
"""Values that are converted at once."""
RANGES = (("0 to 1", 0.0, 1.0), ("-1 to 1", -1.0, 1.0), ("0 to 255", 0.0, 255.0))
"""Ranges of floating-point pixels, lowest and highest value; the first that fits is used."""


def channels_first(X: np.ndarray) -> np.ndarray:
    """Return images [n, H, W], [n, H, W, C] or [n, C, H, W] as a view [n, C, H, W]."""
    if X.ndim == 3:
        return X[:, None]
    if X.shape[3] in (1, 3) or X.shape[3] < min(X.shape[1:3]):
        return X.transpose(0, 3, 1, 2)
    return X


def as_uint8(X: np.ndarray, scale: tuple[float, float]) -> Tensor:
    """Return images of any layout as uint8 [n, C, H, W], converted a few at a time.

    Args:
        X: The images.
        scale: The value that becomes 0, and the factor; (0, 1) for uint8.
    """
    X = channels_first(X)
    if X.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(X))
    pixels_nCHW, (low, factor) = np.empty(X.shape, dtype=np.uint8), scale
    for rows in _parts(X):
        pixels_nCHW[rows] = ((X[rows].astype(np.float64) - low) * factor).round()
    return torch.from_numpy(pixels_nCHW)


def _parts(X: Array) -> list[slice]:
    """Return the rows of consecutive parts of an array, of about `PART` values each."""
    size = max(1, PART * len(X) // X.size)
    return [slice(start, start + size) for start in range(0, len(X), size)]


def _values(X: Array) -> Iterator[np.ndarray]:
    """Yield consecutive parts of an array in memory or on disk."""
    for rows in _parts(X):
        yield X[rows] if isinstance(X, np.ndarray) else X.part(rows)


def pixel_scale(X: Array, where: str, name: str, together: Sequence[Array]) -> tuple[float, float]:
    """Return the pixel value that becomes 0, and the factor that maps the highest to 255.

    Args:
        X: Images of any layout, of which a few are read at a time.
        where: The key and its value, for messages.
        name: Name of the array.
        together: Arrays that have the same range, such as all splits of a file.

    Raises:
        InputError: if they are not numbers in one of `RANGES`.
    """
    if X.dtype == np.uint8:
        return 0.0, 1.0
    if X.dtype == np.bool_:
        return 0.0, 255.0
    number = np.issubdtype(X.dtype, np.number) and not np.iscomplexobj(np.empty(0, X.dtype))
    limits = [
        (float(part.min()), float(part.max()))
        for values in (together if number else ())
        for part in _values(values)
    ]
    if not number or not np.isfinite(limits).all():
        raise InputError(
            f"{where}: {name} is {X.dtype} or contains NaN or infinity; it must be uint8, 0 to "
            "255, or finite numbers"
        )
    least, most = min(low for low, _ in limits), max(high for _, high in limits)
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
    return low, 255 / (high - low)


def _of_signals(X: Array) -> str:
    """Return what to do if numbers that are no pixels may be signals."""
    return "; for signals [n, C, L] set data.modality=signals" if X.ndim == 3 else ""
