"""Detectors saved by a run of `application=detect_ood`.

No code is saved. A post-hoc detector is fitted again, bit for bit, on the saved images that it was
fitted on. A classifier with a garbage class is saved like any other classifier.

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from netinv_lightning.data.pixels import to_uint8
from netinv_lightning.evaluation.image_sets import Images

FOLDER = "detectors"
FITTED_ON = "fitted_on.safetensors"


def garbage_path(directory: Path, name: str) -> Path:
    """Return the path at which a run saves the classifier with a garbage class of that name."""
    return directory / FOLDER / f"{name}.safetensors"


def save_fit_images(directory: Path, training: Images, validation: Images) -> None:
    """Save the images that detectors are fitted on, as uint8, the type of their sources."""
    path = directory / FOLDER / FITTED_ON
    path.parent.mkdir(exist_ok=True)
    images = {"training": training.images_nCHW, "validation": validation.images_nCHW}
    save_file(
        {
            "labels": training.labels_n,
            "validation_labels": validation.labels_n,
            **{name: to_uint8(x_nCHW) for name, x_nCHW in images.items()},
        },
        path,
    )
