"""Loading of a finished inversion from its run directory."""

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
from netinv_lightning.runs.run_directory import INVERTED

DEFAULT_DATA = "mnist"  # the default in conf/config.yaml
DATA_OF_RUN = ("name", "path", "test_path", "classes", "image_size", "modality")
"""Keys of `data` that identify the data set of a run, but not its splits or its location."""


@dataclass(frozen=True)
class FinishedRun:
    """A finished run of `application=invert`.

    Attributes:
        cfg: Its config.
        classifier: The inverted classifier.
        draw: Function from a number to images of the run.
        draw_hot: The same with one-hot conditioning vectors; None without generators.
        samples: Number of images in its evaluation.
        summary: Its metrics.
    """

    cfg: DictConfig
    classifier: FrozenClassifier
    draw: Callable[[int], Images]
    draw_hot: Callable[[int], Images] | None
    samples: int
    summary: dict[str, float]


def open_finished(directory: Path, key: str, command: DictConfig | None = None) -> FinishedRun:
    """Open a finished inversion to draw images from its generators or read its stored samples.

    The stored samples are used only if the run has no generators.

    Args:
        directory: The run directory (`application.run`).
        key: The key with the number of images, for the message if fewer are stored.
        command: The config of the command. The run's data set, classifier and directory are copied
            into this config; its `data.root` is kept.

    Raises:
        InputError: if the directory is not a finished inversion, or the command sets other data or
            another classifier.
    """
    where = f"application.run={directory}"
    check_finished(directory, where)
    cfg = inversion_config(directory)
    if command is not None:
        if command.data.name not in (cfg.data.name, DEFAULT_DATA):
            raise InputError(
                f"data={command.data.name}: the run uses data={cfg.data.name}, which cannot be "
                "changed. Remove data=..."
            )
        _check_same_classifier(command, cfg)
        cfg.data.root = command.data.root
        command.application.run, command.classifier = str(directory.resolve()), cfg.classifier
        for of_run in DATA_OF_RUN:
            command.data[of_run] = cfg.data[of_run]
    summary = read_summary(directory, where)
    if checkpoint_of(directory).is_file():
        module = load_inversion(cfg, directory)
        draw, draw_hot = (
            draw_images(module, cfg.application.eval_batch_size, cfg.seed, hot)
            for hot in (None, True)
        )
        return FinishedRun(
            cfg, module.classifier.whole, draw, draw_hot, cfg.application.eval_samples, summary
        )
    classifier = load_classifier(cfg)
    path = directory / INVERTED
    images = read_samples(path, where, classifier.spec)
    draw = partial(images.first, key)
    return FinishedRun(cfg, classifier, draw, None, len(images.labels_n), summary)


def _check_same_classifier(command: DictConfig, cfg: DictConfig) -> None:
    """Check that the command sets no classifier other than that of the run or the default."""
    inverted = cfg.classifier.zoo or cfg.classifier.path or cfg.classifier.network
    for key, default in (("zoo", f"{command.data.name}_cnn"), ("path", None), ("network", {})):
        if (given := command.classifier[key]) not in (None, default, cfg.classifier[key]):
            raise InputError(
                f"classifier.{key}={given}: the run inverted another classifier, {inverted}. "
                f"Remove classifier.{key}, or invert that classifier first"
            )


def inversion_config(directory: Path, trusted: Sequence[str] = ()) -> DictConfig:
    """Return the config of a run directory, with the path of a classifier that the run trained.

    Raises:
        InputError: if it is not a run directory, or names code that is neither on the allow-list
            nor in `trusted`.
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
    inversion = build_inversion(cfg, draws=True)
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
