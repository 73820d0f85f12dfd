"""Nearest neighbour of an image in a set of images, by pixels or by features.

Similarity of pixels is the normalised cross-correlation: the dot product of images whose pixels
have mean 0 and norm 1 (as in metrics/memorisation.py). Similarity of features is the cosine.

Shape suffixes: m images to choose from, C channels, H height, W width, D features, P pixels.
"""

from __future__ import annotations

import math
import os
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import URLError

import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.spec_sources import OWN
from netinv_lightning.data.datamodule import OWN_IMAGES
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.real_data import of_split, open_data
from netinv_lightning.explorer.drawing import extract
from netinv_lightning.metrics.correlation import unit_rows

MOST = 5_000
"""Largest number of real images in the comparison."""
MOST_VALUES = 60_000_000
"""Largest number of pixels of all images together, over their channels; in memory 240 MB."""
PIXELS, FEATURES = "pixels", "features"
IN_PACKAGES = ("mnist5k", "digits", *OWN_IMAGES)
"""Data sets that are stored outside `data.root`."""
REMEDY = "Set NETINV_DATA to the folder of the data sets, and start again."


@dataclass(frozen=True)
class Nearest:
    """An image, its class and its similarity in [-1, 1]."""

    image_CHW: Tensor
    label: int
    similarity: float


class Neighbours:
    """A set of images that others are compared with.

    Args:
        images: Images in [0, 1].
        classifier: The classifier whose features are compared.
        description: What the images are.
    """

    def __init__(self, images: Images, classifier: FrozenClassifier, description: str) -> None:
        self.images_mCHW, self.labels_m = images.images_nCHW, images.labels_n
        self.description = description
        features_mD = extract(classifier, images.images_nCHW).features_nD
        self.compared = {
            PIXELS: unit_rows(self.images_mCHW),
            FEATURES: F.normalize(features_mD, dim=1),
        }

    def nearest(self, image_CHW: Tensor, features_D: Tensor, by: str) -> Nearest:
        """Return the nearest image by `pixels` or by `features`."""
        probe_D = unit_rows(image_CHW[None])[0] if by == PIXELS else F.normalize(features_D, dim=0)
        similarity_m = self.compared[by] @ probe_D
        index = int(similarity_m.argmax())
        return Nearest(
            self.images_mCHW[index], int(self.labels_m[index]), float(similarity_m[index])
        )


def affordable(spec: DataSpec, most: int) -> int:
    """Return the number of inputs of `spec` to compare with, at most `most`."""
    return max(1, min(most, MOST_VALUES // math.prod(spec.shape)))


def real_images(keys: Mapping[str, Any], spec: DataSpec) -> tuple[Images | None, str]:
    """Return at most 5,000 training images of the run's data set; nothing is downloaded.

    Args:
        keys: The config keys `data` of the run. `NETINV_DATA`, if it is set, replaces `root`.
        spec: Facts of the classifier's data set.

    Returns:
        The images, or None if they are missing; and their description or the reason.
    """
    name, root = keys["name"], os.environ.get("NETINV_DATA") or keys["root"]
    of_classifier = keys["path"] if name in OWN_IMAGES else spec.name != OWN
    if not of_classifier:
        return None, f"No real {spec.modality}: the run names no data of its classifier."
    if name not in IN_PACKAGES and not Path(root).is_dir():
        return None, f"No real {spec.modality}: {name} is not in {root}. {REMEDY}"
    try:
        with _NoDownloads():
            real, why = open_data({**keys, "root": root}, spec)
    except InputError as error:  # data of another shape, or a missing file
        real, why = None, one_line(error)
    if real is None:
        remedy = "" if name in IN_PACKAGES else f" {REMEDY}"
        return None, f"No real {spec.modality}: {why.removeprefix('no real data: ')}.{remedy}"
    images = of_split(real.train, affordable(spec, MOST))
    return images, f"{len(images.labels_n):,} training {spec.modality} of {real.spec.name}"


class _NoDownloads(urllib.request.OpenerDirector):
    """Context in which urllib refuses to open any address."""

    def open(self, *_: Any, **__: Any) -> NoReturn:
        raise URLError("netinv explore does not download data")

    def __enter__(self) -> None:
        urllib.request.install_opener(self)

    def __exit__(self, *_: object) -> None:
        urllib.request.install_opener(None)  # type: ignore[arg-type]
