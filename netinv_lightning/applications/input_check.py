"""Check the files, folders and names in a config before torch is imported.

The constructor of each application checks the rest of its input.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from netinv_lightning.applications.key_check import check_keys
from netinv_lightning.applications.memory_check import check_memory
from netinv_lightning.applications.weights_check import check_classifier
from netinv_lightning.classifiers.verifier_names import check_verifier_of, check_verifiers
from netinv_lightning.config.application_schema import APPLICATION_KEYS
from netinv_lightning.config.rank_by_check import check_rank_by
from netinv_lightning.config.rules import TAG_LENGTH
from netinv_lightning.data.class_folders import class_folders
from netinv_lightning.data.labels import check_labels
from netinv_lightning.data.specs import (
    ON_DISK,
    OWN_IMAGES,
    SPECS,
    check_name,
    check_shift,
    missing_file,
    own_images_path,
    spec_of_classes,
)
from netinv_lightning.errors import InputError
from netinv_lightning.runs.file_check import check_npz, check_safetensors
from netinv_lightning.runs.finished_check import check_finished, named_run
from netinv_lightning.runs.run_directory import read_status
from netinv_lightning.tracking.wandb_login import check_installed, check_login

NEED_DATA = ("train_classifier", "detect_ood", "audit")
"""Applications that cannot run without the real images of `data`."""
WITHOUT_CLASSIFIER = ("train_classifier", "benchmark")
OR_A_FILE = "measure"
"""The application that takes `application.samples` instead of `application.run`."""
OF_A_RUN = {name for name, keys in APPLICATION_KEYS.items() if hasattr(keys, "run")} - {OR_A_FILE}
"""Applications that need `application.run`: those whose keys contain it."""


def check_inputs(cfg: DictConfig) -> None:
    """Refuse missing or damaged files and unknown names. Nothing is written.

    Raises:
        InputError: naming the key.
    """
    name = cfg.application.name
    check_keys(cfg)
    _check_data(cfg)
    if name == "train_classifier":
        _check_save_as(cfg)
        check_verifier_of(cfg)
    if name == "approach" and cfg.application.file is not None:
        check_safetensors(Path(cfg.application.file), f"application.file={cfg.application.file}")
    if name in OF_A_RUN or (name == OR_A_FILE and cfg.application.run):
        check_finished(named_run(cfg), f"application.run={cfg.application.run}")
    elif name not in WITHOUT_CLASSIFIER and not cfg.classifier.train:
        check_memory(cfg, check_classifier(cfg))
    if name == OR_A_FILE and cfg.application.samples:
        check_safetensors(
            Path(cfg.application.samples), f"application.samples={cfg.application.samples}"
        )
    check_verifiers(cfg, compare=name not in OF_A_RUN and name != OR_A_FILE)
    check_rank_by(cfg)
    _check_logger(cfg)


def _check_logger(cfg: DictConfig) -> None:
    """Refuse a missing package or login, and values that W&B would reject after the start."""
    logger = cfg.logger
    check_installed(logger.name)
    if logger.name != "wandb":
        return
    for tag in logger.tags:
        if not 1 <= len(str(tag)) <= TAG_LENGTH:
            raise InputError(
                f"logger.tags={tag}: must have 1 to {TAG_LENGTH} characters, the limit of W&B"
            )
    if not re.fullmatch(r"[^/\\#?%:\r\n]{1,128}", logger.project):
        raise InputError(
            f"logger.project={logger.project}: must have 1 to 128 characters and none of "
            "/ \\ # ? % :"
        )
    if logger.entity is not None and not re.fullmatch(r"[\w-]{1,128}", logger.entity, re.ASCII):
        raise InputError(
            f"logger.entity={logger.entity}: must consist of letters, digits, - and _. It is the "
            "user or team in the URL of the W&B project"
        )
    for key, value in (
        ("logger.group", logger.group or ""),
        ("name", f"{cfg.name}-seed{cfg.seed}"),
    ):
        if len(value) > 128:
            raise InputError(
                f"{key}={value[:40]}...: has {len(value)} characters; W&B allows 128. Shorten it"
            )
    if logger.mode == "online":
        check_login("logger.mode=online", "or set logger.mode=offline")


def _check_data(cfg: DictConfig) -> None:
    """Refuse unknown data and classes, and missing images if the application needs them."""
    data = cfg.data
    check_name(data.name)
    if data.classes is not None and data.name in SPECS:
        spec_of_classes(SPECS[data.name], data.classes)
    if data.name in SPECS:
        check_shift(data.shift, SPECS[data.name].image_size)
    if cfg.application.name not in NEED_DATA and not cfg.classifier.train:
        return
    for split in ("train", "test") if cfg.application.name in NEED_DATA else ():
        if (file := ON_DISK.get(data.name, "").format(split=split)) and not (
            path := Path(data.root) / file
        ).is_file():
            raise InputError(missing_file(data.name, Path(data.root), path))
    if data.name not in OWN_IMAGES:
        return
    own_images_path(data.name, data.path)
    check: Callable[[Path, str], object] = check_npz if data.name == "npz" else class_folders
    for key in ("path", "test_path"):
        if data[key] is not None:
            check(Path(data[key]), f"data.{key}={data[key]}")
    if data.name == "npz":
        check_labels(Path(data.path), f"data.path={data.path}", data.classes)


def _check_save_as(cfg: DictConfig) -> None:
    """Refuse a path to which the trained classifier could not be written.

    An existing file is refused, unless `application.overwrite` is set or the resumed run wrote it.

    Raises:
        InputError: naming the key.
    """
    name = cfg.application.save_as
    if name is None:
        return
    path, where = Path(name), f"application.save_as={name}"
    if not name.endswith(".safetensors"):
        raise InputError(f"{where}: must end in .safetensors")
    if path.is_dir():
        raise InputError(f"{where}: is a folder. Give the name of a file")
    begun = cfg.resume is not None and read_status(Path(cfg.resume)).get("saves") == name
    if path.exists() and not (cfg.application.overwrite or begun):
        raise InputError(
            f"{where}: exists already. Give another name, or set application.overwrite=true"
        )
    there = next(parent for parent in path.absolute().parents if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK) or _read_only(there):
        raise InputError(f"{where}: {there} is not a writable folder. Choose another folder")


def _read_only(folder: Path) -> bool:
    """Return whether a folder is read-only despite its permissions (/proc, read-only disk)."""
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY) or Path("/proc") in (
            folder,
            *folder.parents,
        )
    except OSError:
        return False
