"""A finished inversion, as a later command or a notebook finds it in its run directory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.evaluation.image_sets import Images, draw_images, read_samples
from netinv_lightning.inversion.base import Inverter
from netinv_lightning.inversion.build import METHODS
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.runs.finished_check import check_finished, known_config, read_summary
from netinv_lightning.runs.outside_files import open_file

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
        module = load_module(cfg, directory)
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
        InputError: if it is not a run directory, or names code outside the allow-list and `trusted`.
    """
    cfg = known_config(directory, str(directory), trusted)
    if cfg.classifier.train:
        cfg.classifier.train, cfg.classifier.path = False, str(directory / "classifier.safetensors")
    return cfg


def load_module(cfg: DictConfig, directory: Path) -> Inverter:
    """The inversion that `cfg` describes, with its trained generators where it has any.

    Raises:
        InputError: if the classifier is not there.
    """
    module = METHODS[cfg.method.name](cfg, None)
    if isinstance(module, InversionModule):
        open_file(
            checkpoint_of(directory), directory
        ).close()  # refuses what is not a file of the run
        _fill(module, checkpoint_of(directory))
        module.eval()
        if (
            cfg.application.channels_last
        ):  # as the run had it, so that the same images come out bit by bit
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def _fill(module: InversionModule, path: Path) -> None:
    """Loads the generators of a checkpoint.

    Raises:
        InputError: if it is damaged, or of other generators.
    """
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)[
            "state_dict"
        ]
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    except Exception as error:  # torch answers damaged bytes with whatever it trips over
        raise InputError(
            f"{path}: is not a whole checkpoint ({one_line(error)[:160]}); run it again"
        ) from error
    own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    if wrong := [name for name in {**own, **shapes} if own.get(name) != shapes.get(name)]:
        first = f"{wrong[0]} is {shapes.get(wrong[0], 'missing')} in the file, {own.get(wrong[0], 'missing')} in the generator"
        raise InputError(
            f"{path}: belongs to another generator than config.yaml describes ({first}, {len(wrong)} in all); run it again"
        )
    module.load_state_dict(state, strict=False)


def checkpoint_of(directory: Path) -> Path:
    return directory / "checkpoints" / "last.ckpt"
