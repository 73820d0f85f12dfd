"""The real images that inverted images are compared with.

Shape suffixes: n images, m chosen images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.datasets import Split
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.data.specs import SPECS, UNITS, DataSpec, same_data, spec_of_classes
from netinv_lightning.data.splits import stratified_indices
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.real_accuracy import report_accuracy

REAL_IMAGES = 10_000
"""Largest number of real images taken from a split; the choice is stratified by class."""
NO_REAL_IMAGES = "no real images: set data.root (or NETINV_DATA) to the folder of the data set"
NO_TEST_IMAGES = "no real test images: set data.test_path, or hold some out with data.val_fraction"


def open_real(
    data: Mapping[str, Any], classifier: FrozenClassifier
) -> tuple[ImageDataModule | None, str]:
    """Open the real data as `open_data` does, and print the classifier's accuracy on them."""
    real, missing = open_data(data, classifier.spec)
    if real is not None:
        report_accuracy(classifier, real)
    return real, missing


def require_real(
    data: Mapping[str, Any], classifier: FrozenClassifier, needed: str
) -> ImageDataModule:
    """Open the real data as `open_real` does.

    Args:
        data: The config keys `data`.
        classifier: The classifier.
        needed: What needs the data, in words.

    Raises:
        InputError: as `open_data`, or if the data are missing.
    """
    real, missing = open_real(data, classifier)
    if real is None:
        raise InputError(f"data={data['name']}: {needed}; {missing}")
    return real


def open_data(data: Mapping[str, Any], spec: DataSpec) -> tuple[ImageDataModule | None, str]:
    """Return the real data, or the reason why they are missing.

    Args:
        data: The config keys `data`, arguments of `ImageDataModule`.
        spec: Facts of the classifier's training data.

    Raises:
        InputError: for any error except missing files, and for data that do not belong to a
            classifier of `spec`.
    """
    if spec.name in SPECS:  # for other classifiers, `data` may still be the config's default
        check_named(data["name"], data["classes"], spec)
    try:
        real = ImageDataModule(**data)
    except InputError as error:
        if not str(error).startswith("data.root="):
            raise
        return None, f"no real data: {one_line(error)}"
    check_real(real, spec)
    if spec.modality != "images":
        real.use_limits_of(spec)
    return real, ""


def check_real(real: ImageDataModule, spec: DataSpec) -> None:
    """Check that data belong to a classifier of `spec`.

    Raises:
        InputError: if their name, classes or shape differ.
    """
    _check_facts(real.spec, real.classes, spec)


def check_named(name: str, classes: Sequence[int] | None, spec: DataSpec) -> None:
    """Check a data set by its name, without reading it; unknown names pass.

    Raises:
        InputError: if their name, classes or shape differ.
    """
    if (facts := SPECS.get(name)) is not None:
        _check_facts(facts if classes is None else spec_of_classes(facts, classes), classes, spec)


def _check_facts(facts: DataSpec, classes: Sequence[int] | None, spec: DataSpec) -> None:
    if facts.name in SPECS and spec.name in SPECS and not same_data(facts.name, spec.name):
        raise InputError(
            f"data={facts.name}: the classifier was trained on {spec.name} (from its model card). "
            f"Set data={spec.name}, or choose another classifier"
        )
    if (
        classes is None
        and facts.name in SPECS
        and spec.name in SPECS
        and set(spec.class_names) < set(facts.class_names)
    ):
        labels = ",".join(str(facts.class_names.index(name)) for name in spec.class_names)
        raise InputError(
            f"data.classes: the classifier has only the classes {', '.join(spec.class_names)}. "
            f"Add 'data.classes=[{labels}]'"
        )
    for fact in UNITS:
        if (there := getattr(facts, fact)) != (here := getattr(spec, fact)):
            raise InputError(
                f"data={facts.name}: has {fact}={there}, but the classifier has {fact}={here}. "
                "Set data to the data set that it was trained on"
            )
    if classes is not None and facts.class_names != spec.class_names:
        raise InputError(
            f"data.classes={list(classes)}: these are {', '.join(facts.class_names)}, but the "
            f"classifier has {', '.join(spec.class_names)}. "
            "Set the classes that it was trained on, in the same order"
        )


def of_split(split: Split, most: int, seed: int = 0) -> Images:
    """Return at most `most` real images of a split, stratified by class."""
    images_nCHW, labels_n = split
    chosen_m = stratified_indices(labels_n, min(len(labels_n), most), seed)
    return Images(to_unit_range(images_nCHW[chosen_m]), labels_n[chosen_m])


def halves_of_test(real: ImageDataModule) -> tuple[Split, Split]:
    """Return two fixed halves of the test images.

    The first half is for the evaluation of networks that are trained on measured images. The second
    half may be a measured set itself. No network is therefore evaluated on its training images.
    """
    images_nCHW, labels_n = real.test
    first_n = torch.zeros(len(labels_n), dtype=torch.bool)
    first_n[stratified_indices(labels_n, len(labels_n) // 2, 0)] = True
    return (images_nCHW[first_n], labels_n[first_n]), (
        images_nCHW[~first_n],
        labels_n[~first_n],
    )
