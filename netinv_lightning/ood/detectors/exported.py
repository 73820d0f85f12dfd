"""Detectors that a run keeps, for whoever wants to score images of his own.

A post-hoc detector is fitted again, to the bit, from what it was fitted on, which lies beside it; so no code is stored. A classifier
with a garbage class is stored as any other.
"""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig
from safetensors.torch import save_file
from torch import Tensor

from netinv_lightning.classifiers.build import load_carded, load_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.errors import InputError, nearest
from netinv_lightning.evaluation.image_sets import Images, read_tensors
from netinv_lightning.ood.detectors.detector import DETECTORS, Detector, fit
from netinv_lightning.ood.detectors.garbage import ODDS, GarbageOdds, GarbageOddsAndEnergy
from netinv_lightning.ood.detectors.known import gather

FOLDER = "detectors"


def garbage_path(directory: Path, name: str) -> Path:
    """Where a run keeps the classifier with a garbage class of that name."""
    return directory / FOLDER / f"{name}.safetensors"


def garbage_detector(
    name: str, score: str, classifier: FrozenClassifier, validation_nCHW: Tensor
) -> Detector:
    """The detector that a classifier with a garbage class is, asked by one of `netinv_lightning.ood.detectors.garbage.SCORES`."""
    rule = GarbageOdds() if score == ODDS else GarbageOddsAndEnergy.fit(classifier, validation_nCHW)
    return Detector(name, classifier, rule)


def write_fitted_on(directory: Path, training: Images, validation: Images) -> None:
    """Keeps the images [n, C, H, W] that detectors are fitted on; they come from bytes and are kept as bytes."""
    path = directory / FOLDER / "fitted_on.safetensors"
    path.parent.mkdir(exist_ok=True)
    images = {"training": training.images_nCHW, "validation": validation.images_nCHW}
    save_file(
        {
            "labels": training.labels_n,
            **{name: (x_nCHW * 255).round().byte() for name, x_nCHW in images.items()},
        },
        path,
    )


def load_detector_of(cfg: DictConfig, directory: Path, name: str) -> Detector:
    """A detector of a finished run of `application=detect_ood`.

    Args:
        cfg: Of the run.
        directory: The run directory.
        name: One of the run's detectors, or of its classifiers with a garbage class.

    Raises:
        InputError: if the run has none of that name, or a file is missing or damaged.
    """
    if cfg.application.name != "detect_ood":
        raise InputError(
            f"{directory}: is a run of application={cfg.application.name}; give one of application=detect_ood"
        )
    known = [*cfg.application.detectors, *cfg.garbage]
    if name not in cfg.garbage and (name not in known or name not in DETECTORS):
        raise InputError(f"{directory}: has no detector {name}; {nearest(name, known)}")
    path = directory / FOLDER / "fitted_on.safetensors"
    kept = read_tensors(path, f"{directory}: {FOLDER}/{path.name}")
    training_nCHW, validation_nCHW = (
        kept[part].float() / 255 for part in ("training", "validation")
    )
    if name in cfg.garbage:
        classifier = load_carded(garbage_path(directory, name), f"{directory}: detector {name}")
        return garbage_detector(name, cfg.garbage[name].score, classifier, validation_nCHW)
    classifier = load_classifier(cfg)
    with torch.random.fork_rng():
        return fit(
            name, gather(classifier, training_nCHW, kept["labels"], validation_nCHW, seed=cfg.seed)
        )
