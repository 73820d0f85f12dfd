"""Detectors saved by a run of `application=detect_ood`.

No code is saved. A post-hoc detector is fitted again, bit for bit, on the saved images that it was
fitted on. A classifier with a garbage class is saved like any other classifier.

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig
from safetensors.torch import save_file

from netinv_lightning.classifiers.build import load_carded, load_classifier
from netinv_lightning.data.pixels import to_uint8, to_unit_range
from netinv_lightning.data.tensor_files import read_tensors
from netinv_lightning.errors import InputError, nearest
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.ood.detectors.fit_data import collect_fit_data
from netinv_lightning.ood.detectors.garbage_class import garbage_detector
from netinv_lightning.ood.detectors.registry import DETECTORS, Detector, fit_detector

FOLDER = "detectors"
FITTED_ON = "fitted_on.safetensors"


def garbage_path(directory: Path, name: str) -> Path:
    """Return the path at which a run saves the classifier with a garbage class of that name."""
    return directory / FOLDER / f"{name}.safetensors"


def save_fit_images(directory: Path, training: Images, validation: Images) -> None:
    """Save the images that detectors are fitted on; they come from uint8 and are saved as uint8."""
    path = directory / FOLDER / FITTED_ON
    path.parent.mkdir(exist_ok=True)
    images = {"training": training.images_nCHW, "validation": validation.images_nCHW}
    save_file(
        {
            "labels": training.labels_n,
            **{name: to_uint8(x_nCHW) for name, x_nCHW in images.items()},
        },
        path,
    )


def load_saved_detector(cfg: DictConfig, directory: Path, name: str) -> Detector:
    """Load a detector of a finished run of `application=detect_ood`.

    Args:
        cfg: Config of the run.
        directory: The run directory.
        name: One of the detectors of the run, or of its classifiers with a garbage class.

    Raises:
        InputError: if the run has no detector of that name, or a file is missing or damaged.
    """
    if cfg.application.name != "detect_ood":
        raise InputError(
            f"{directory}: is a run of application={cfg.application.name}; "
            "name a run of application=detect_ood"
        )
    available = [*cfg.application.detectors, *cfg.garbage]
    if name not in cfg.garbage and (name not in available or name not in DETECTORS):
        raise InputError(f"{directory}: has no detector {name}; {nearest(name, available)}")
    saved = read_tensors(directory / FOLDER / FITTED_ON, f"{directory}: {FOLDER}/{FITTED_ON}")
    training_nCHW, validation_nCHW = (
        to_unit_range(saved[part]) for part in ("training", "validation")
    )
    if name in cfg.garbage:
        classifier = load_carded(garbage_path(directory, name), f"{directory}: detector {name}")
        return garbage_detector(name, cfg.garbage[name].score, classifier, validation_nCHW)
    classifier = load_classifier(cfg)
    with torch.random.fork_rng():
        fit_data = collect_fit_data(
            classifier, training_nCHW, saved["labels"], validation_nCHW, seed=cfg.seed
        )
        return fit_detector(name, fit_data)
