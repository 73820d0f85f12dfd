"""Of a set of images the one that is nearest to a given one, in pixels or in what the classifier sees.

In pixels it is the largest normalised cross-correlation: the dot product of images whose pixels have mean 0 and norm 1
(as in metrics/memorisation.py). In features it is the largest cosine.

Shape suffixes: m images to choose from, C channels, H height, W width, D features, P pixels.
"""

from __future__ import annotations

import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import URLError

import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.evaluation.image_sets import Images, of_split, open_data
from netinv_lightning.explorer.drawing import extract
from netinv_lightning.metrics.correlation import unit_rows

MOST = 5_000
"""Real images at most; their features are computed once."""
PIXELS, FEATURES = "pixels", "features"
IN_PACKAGES = ("mnist5k", "npz", "image_folder")
"""Data that are not looked for in `data.root`."""
REMEDY = "Set NETINV_DATA to the folder that holds them and start again."


@dataclass(frozen=True)
class Nearest:
    """An image, its class and its similarity, in [-1, 1]."""

    image_CHW: Tensor
    label: int
    similarity: float


class Neighbours:
    """Images to choose from.

    Args:
        images: In [0, 1].
        classifier: Whose features are compared.
        what: What they are, in words.
    """

    def __init__(self, images: Images, classifier: FrozenClassifier, what: str) -> None:
        self.images_mCHW, self.labels_m, self.what = images.images_nCHW, images.labels_n, what
        features_mD = extract(classifier, images.images_nCHW).features_nD
        self.compared = {
            PIXELS: unit_rows(self.images_mCHW),
            FEATURES: F.normalize(features_mD, dim=1),
        }

    def nearest(self, image_CHW: Tensor, features_D: Tensor, by: str) -> Nearest:
        """The nearest of the images, by `pixels` or by `features`."""
        probe_D = unit_rows(image_CHW[None])[0] if by == PIXELS else F.normalize(features_D, dim=0)
        similarity_m = self.compared[by] @ probe_D
        index = int(similarity_m.argmax())
        return Nearest(
            self.images_mCHW[index], int(self.labels_m[index]), float(similarity_m[index])
        )


def real_images(cfg: DictConfig, spec: DataSpec) -> tuple[Images | None, str]:
    """Training images of the data that the run names, at most 5,000; nothing is downloaded.

    Args:
        cfg: Of the run. `NETINV_DATA`, where it is set, says where the data are, whatever the run's was.
        spec: Of the classifier's data.

    Returns:
        The images or None, and what they are or why there are none.
    """
    cfg = cfg.copy()
    cfg.data.root = os.environ.get("NETINV_DATA") or cfg.data.root
    if cfg.data.name not in IN_PACKAGES and not Path(cfg.data.root).is_dir():
        return None, f"No real images: {cfg.data.name} is not in {cfg.data.root}. {REMEDY}"
    try:
        with _NoDownloads():
            real, why = open_data(cfg, spec)
    except InputError as error:  # data of another shape, or an own file that is gone
        real, why = None, one_line(error)
    if real is None:
        return None, f"No real images: {why.removeprefix('no real data: ')}. {REMEDY}"
    images = of_split(real.train, MOST)
    return images, f"{len(images.labels_n):,} training images of {real.spec.name}"


class _NoDownloads(urllib.request.OpenerDirector):
    """While it is entered, whatever asks urllib for something from the network is refused."""

    def open(self, *_: Any, **__: Any) -> NoReturn:
        raise URLError("netinv explore downloads nothing")

    def __enter__(self) -> None:
        urllib.request.install_opener(self)

    def __exit__(self, *_: object) -> None:
        urllib.request.install_opener(None)  # type: ignore[arg-type]
