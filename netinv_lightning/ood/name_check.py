"""Checks of the names in `application=detect_ood`: each must be known, and used once."""

from __future__ import annotations

from collections.abc import Iterable

from netinv_lightning.data.outlier_names import called, is_own
from netinv_lightning.errors import InputError, nearest
from netinv_lightning.ood.comparison import PLAIN, RESERVED
from netinv_lightning.ood.detectors import DETECTORS


def check_names(
    detectors: Iterable[str],
    garbage: Iterable[object],
    outliers: Iterable[str],
    in_distribution: str,
) -> None:
    """Check the names of detectors, classifiers with a garbage class, and OOD sets.

    Args:
        detectors: Names of detectors.
        garbage: Names of classifiers with a garbage class, which are names in the results too.
        outliers: Names or paths of OOD sets.
        in_distribution: Name of the in-distribution data.

    Raises:
        InputError: naming the key.
    """
    for name in detectors:
        if name not in DETECTORS:
            raise InputError(f"application.detectors={name}: {nearest(name, DETECTORS)}")
    for choice in garbage:
        if choice in (*DETECTORS, PLAIN):
            raise InputError(f"garbage.{choice}: is the name of a detector. Choose another name")
    for name in outliers:
        if is_own(name) and called(name) in (in_distribution, *RESERVED):
            raise InputError(
                f"application.outliers={name}: would be named {called(name)} in the results, "
                "which is used already. Rename the file"
            )
