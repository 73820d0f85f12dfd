"""A finished inversion, as a later command or a notebook finds it in its run directory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.image_sets import Images, draw_images, read_samples
from netinv_lightning.inversion.base import Inversion
from netinv_lightning.inversion.build import build_inversion, make_module
from netinv_lightning.inversion.checkpoint import checkpoint_of
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.runs.finished_check import check_finished, known_config, read_summary

DEFAULT_DATA = "mnist"  # of conf/config.yaml; nobody may have asked for it
DATA_OF_RUN = ("name", "path", "test_path", "classes", "image_size")
"""Keys of `data` that say which data a run's are, not how they are split or where they lie."""


@dataclass(frozen=True)
class FinishedRun:
    """What is known of a run of `application=invert` that is done.

    Attributes:
        cfg: Its config.
        classifier: The classifier that it inverted.
        draw: Gives so many of its images.
        samples: How many of them its evaluation took.
        summary: Its metrics.
    """

    cfg: DictConfig
    classifier: FrozenClassifier
    draw: Callable[[int], Images]
    samples: int
    summary: dict[str, float]


def open_finished(directory: Path, key: str, command: DictConfig | None = None) -> FinishedRun:
    """Opens `application.run`: its generators, or where it has none the samples that it kept.

    Args:
        directory: Of the run.
        key: The key that asks for a number of images, for the error where a run kept fewer.
        command: The config of the command that opens it, whose `data.root` is taken; all else of the run's data is the run's. What the
            run says of data and classifier is written into it, and where the run is, so that what is kept of the command is true.

    Raises:
        InputError: if it is no run, another application's, or not done, or the command names other data or another classifier.
    """
    where = f"application.run={directory}"
    check_finished(directory, where)
    cfg = inversion_config(directory)
    if command is not None:
        if command.data.name not in (cfg.data.name, DEFAULT_DATA):
            raise InputError(
                f"data={command.data.name}: the data of the run are {cfg.data.name}, and stay so; leave it out"
            )
        _check_same_classifier(command, cfg)
        cfg.data.root = command.data.root
        command.application.run, command.classifier = str(directory.resolve()), cfg.classifier
        for of_run in DATA_OF_RUN:
            command.data[of_run] = cfg.data[of_run]
    summary = read_summary(directory, where)
    if checkpoint_of(directory).is_file():
        module = load_inversion(cfg, directory)
        draw = draw_images(module, cfg.application.eval_batch_size, cfg.seed)
        return FinishedRun(cfg, module.classifier, draw, cfg.application.eval_samples, summary)
    images = read_samples(directory / "samples" / "inverted.safetensors", where)
    return FinishedRun(
        cfg, load_classifier(cfg), partial(images.first, key), len(images.labels_n), summary
    )


def _check_same_classifier(command: DictConfig, cfg: DictConfig) -> None:
    """Refuses a classifier that is not the run's; a data set's own CNN of the zoo is what is named by default."""
    inverted = cfg.classifier.zoo or cfg.classifier.path or cfg.classifier.network
    for key, default in (("zoo", f"{command.data.name}_cnn"), ("path", None), ("network", {})):
        if (given := command.classifier[key]) not in (None, default, cfg.classifier[key]):
            raise InputError(
                f"classifier.{key}={given}: the run is one of another classifier, {inverted}; leave it out, or invert that one first"
            )


def inversion_config(directory: Path, trusted: Sequence[str] = ()) -> DictConfig:
    """The config of a run directory, which leads to its own copy of a classifier that was trained for it.

    Raises:
        InputError: if it is no run directory, or names code outside the allow-list and `trusted`.
    """
    cfg = known_config(directory, str(directory), trusted)
    if cfg.classifier.train:
        cfg.classifier.train, cfg.classifier.path = False, str(directory / "classifier.safetensors")
    return cfg


def load_inversion(cfg: DictConfig, directory: Path) -> Inversion:
    """Build the inversion of a run directory, with its trained generators if it has any.

    Raises:
        InputError: if the classifier or the checkpoint is missing or damaged.
    """
    inversion = build_inversion(cfg)
    inversion.load(directory, cfg.application.channels_last)
    return inversion


def load_generators(cfg: DictConfig, directory: Path) -> InversionModule | None:
    """Build the module of a run directory with its trained generators; None if it has none.

    Raises:
        InputError: if the classifier is missing, or the checkpoint is damaged.
    """
    if not checkpoint_of(directory).is_file():
        return None
    module = make_module(cfg)
    module.load(directory, cfg.application.channels_last)
    return module
