"""Builder: a detector of a finished run of `application=detect_ood`.

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from omegaconf import DictConfig

from netinv_lightning.classifiers.build import load_carded, load_classifier
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.data.tensor_files import read_tensors
from netinv_lightning.errors import InputError, nearest
from netinv_lightning.ood.detectors.fit_data import collect_fit_data
from netinv_lightning.ood.detectors.garbage_class import garbage_detector
from netinv_lightning.ood.detectors.registry import DETECTORS, Detector, fit_detector
from netinv_lightning.ood.detectors.saved_detectors import FITTED_ON, FOLDER, garbage_path


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
        score = cfg.garbage[name].score
        return replace(
            garbage_detector(name, score, classifier, validation_nCHW),
            calibration_nCHW=validation_nCHW,
        )
    classifier = load_classifier(cfg)
    with torch.random.fork_rng():
        fit_data = collect_fit_data(
            classifier,
            training_nCHW,
            saved["labels"],
            validation_nCHW,
            seed=cfg.seed,
            validation_labels_n=saved.get("validation_labels"),
        )
        return replace(fit_detector(name, fit_data), calibration_nCHW=validation_nCHW)
