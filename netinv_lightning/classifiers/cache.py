"""Classifiers that are trained once: `classifier.train=true` keeps each in a folder, by the hash of all that determines it.

    <kept_in>/<data>_<network>_<hash>/classifier.safetensors, and its card, which tells what was hashed

The card is written last and holds the weights' sha256: without a card that fits there is no classifier, whenever a
training was killed; the checkpoint of that training lies beside, and the next run that needs the classifier continues it.
Whoever trains holds a lock that the operating system frees when its process dies, so those that need the same
classifier at the same time wait for it. What is damaged is trained again: its config says all that it takes, and no
other job of a sweep has to fail for it.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.seed import isolate_rng
from omegaconf import DictConfig, OmegaConf, open_dict

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.architecture import SPEC_KEYS
from netinv_lightning.classifiers.checkpoints import (
    fill,
    load_weights,
    read_card,
    save_classifier,
    sha256,
)
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.training import ClassifierTraining, DivergedError, recipe_seed
from netinv_lightning.config.allowed_targets import locate
from netinv_lightning.data.datamodule import OWN_IMAGES
from netinv_lightning.errors import InputError
from netinv_lightning.runs.run_directory import first_process
from netinv_lightning.training.trainer import make_trainer

PACKAGE = Path(__file__).resolve().parent.parent
OWN_CODE = ("classifiers/*.py", "data/*.py", "training/trainer.py")
"""The part of this package that decides what a training gives."""
NOT_OF_THE_WEIGHTS = {
    "accelerator", "precision",  # hashed as what they come to on this machine
    "devices", "num_nodes", "strategy",  # one device trains
    "default_root_dir", "enable_checkpointing", "enable_model_summary", "enable_progress_bar", "log_every_n_steps",
    "num_sanity_val_steps", "profiler",
}  # fmt: skip
"""Keys of `trainer` that change no weight; every other one is hashed."""


def train_once(
    cfg: DictConfig, classifier: FrozenClassifier, run_dir: Path | None = None
) -> dict[str, float]:
    """Fills in the weights that `classifier.train=true` asks for: kept ones, or else it trains them and keeps them.

    The global randomness is left as it was, so what follows does not depend on which of the two it was.

    Args:
        cfg: The config; without `classifier.train` nothing is done.
        classifier: As `load_classifier(cfg)` gave it; its weights are changed in place.
        run_dir: Gets a copy of the file and its card, so that the run can be loaded whatever becomes of the kept one.

    Returns:
        The classifier's test accuracy, and what its training cost if it was trained here.
    """
    if not cfg.classifier.train:
        return {}
    path = kept_path(cfg)
    metrics: dict[str, float] = {}
    if kept_card(path) is None:
        with _alone(path):
            if kept_card(path) is None:  # else the process that was waited for has trained it
                metrics[names.CLASSIFIER_TRAINING_SECONDS] = _train(cfg, path)
    card = read_card(path)
    assert card is not None
    fill(classifier.network, load_weights(path), f"classifier.kept_in: {path}")
    classifier.trained = True
    if run_dir is not None and first_process():
        for file in (path, path.with_suffix(".json")):
            shutil.copyfile(file, run_dir / file.name)
    accuracy = float(card["test_accuracy"])
    print(
        f"classifier: {path}  test accuracy {accuracy:.4f}  ({'trained' if metrics else 'kept'})",
        flush=True,
    )
    if math.isfinite(accuracy):  # else there are no test images
        metrics[names.CLASSIFIER_TEST_ACCURACY] = accuracy
    return metrics


def untrained(cfg: DictConfig) -> FrozenClassifier:
    """The classifier that `train_once` will train, frozen, after all that its training needs was read and checked.

    Raises:
        InputError: if it cannot be trained, or could not be kept.
    """
    # Another one than the generator was trained against must not take its place; the run has its own copy once that began.
    if cfg.resume is not None and (Path(cfg.resume) / "classifier.json").is_file():
        raise InputError(
            f"resume={cfg.resume}: its classifier is not kept in classifier.kept_in={cfg.classifier.kept_in}; it was removed, or its "
            f"data, a key of trainer, the code or a version changed since ({kept_path(cfg).parent.name} was looked for); start a new run"
        )
    folder = Path(cfg.classifier.kept_in).absolute()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InputError(
            f"classifier.kept_in={cfg.classifier.kept_in}: cannot be written; set it, or NETINV_CLASSIFIERS, to a folder that can"
        )
    with _randomness_untouched():
        frozen = ClassifierTraining(_on_one_device(cfg)).frozen
    frozen.trained = False
    return frozen.requires_grad_(False).eval()


def kept_path(cfg: DictConfig) -> Path:
    """Where the classifier that `cfg` determines is kept, whether it is there or not."""
    facts = determined_by(cfg)
    network, data = facts["network"], facts["data"]
    label = (
        network.get("model_name")
        or network.get("name")
        or str(network["_target_"]).rpartition(".")[2]
    )
    name = Path(cfg.data.path).stem if facts["images"] else data["name"]
    folder = re.sub(r"[^\w.-]+", "-", f"{name}_{str(label).lower()}_{_hash(facts)[:12]}")
    return Path(cfg.classifier.kept_in) / folder / "classifier.safetensors"


def kept_card(path: Path) -> dict[str, Any] | None:
    """The card of the classifier kept at `path`; None if there is none, or no whole one."""
    if not path.with_suffix(".json").is_file():
        return None
    try:
        return read_card(path)
    except InputError:
        return None


def determined_by(cfg: DictConfig) -> dict[str, Any]:
    """All that a trained classifier follows from: network, data, recipe, seed, trainer, device, versions and code.

    The data sets that are known by name are taken to be what their name says; a user's own images are read and hashed.
    """
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    network, data = plain["classifier"]["network"], plain["data"]
    own = [
        key for key in ("path", "test_path") if data["name"] in OWN_IMAGES and data[key] is not None
    ]
    # A Trainer knows which device and which precision `auto` comes to here.
    trainer = make_trainer(
        _on_one_device(cfg), callbacks=[], loggers=[], plugins=[LightningEnvironment()]
    )
    return {
        "network": network,
        "spec": {key: plain["classifier"][key] for key in (*SPEC_KEYS, "output", "output_kind")},
        "data": {
            key: value for key, value in data.items() if key not in ("root", "path", "test_path")
        },
        "images": {key: _content(Path(data[key])) for key in own},
        "recipe": {**plain["recipe"], "seed": recipe_seed(cfg)},
        "trainer": {
            key: value for key, value in plain["trainer"].items() if key not in NOT_OF_THE_WEIGHTS
        },
        "precision": trainer.precision,
        "device": trainer.strategy.root_device.type,
        "versions": _versions(str(network["_target_"])),
        "code": _files_hash(
            PACKAGE, (file for pattern in OWN_CODE for file in PACKAGE.glob(pattern))
        ),
        "network_code": _source_hash(str(network["_target_"])),
    }


def _train(cfg: DictConfig, path: Path) -> float:
    """Trains what belongs at `path` and keeps it; gives the seconds of the training."""
    if path.with_suffix(".json").is_file():
        print(f"classifier: {path} is damaged; it is trained again", file=sys.stderr, flush=True)
    facts = determined_by(cfg)
    with _randomness_untouched():
        training = ClassifierTraining(_on_one_device(cfg))
        checkpoint = path.with_name(
            "training.ckpt"
        )  # of a training that was killed, which continues here, whoever needs it
        try:
            metrics = training.run([], checkpoint, resuming=True, plugins=[LightningEnvironment()])
        except DivergedError:
            checkpoint.unlink(missing_ok=True)
            raise
    save_classifier(
        path,
        training.network,
        {**training.card(path.stem, metrics), "hash": _hash(facts), "determined_by": facts},
    )
    checkpoint.unlink()
    return metrics[names.TRAINING_SECONDS]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds the lock of what is kept at `path`; says so when it has to wait for it."""
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.parent.with_name(path.parent.name + ".lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(
            f"classifier: another process trains {path}; waiting for it",
            file=sys.stderr,
            flush=True,
        )
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _randomness_untouched() -> Iterator[None]:
    """Seeds inside are forgotten after the block, also the one that Lightning notes for the processes that it starts."""
    noted = os.environ.get("PL_GLOBAL_SEED")
    with isolate_rng():
        yield
    os.environ.pop("PL_GLOBAL_SEED", None)
    if noted is not None:
        os.environ["PL_GLOBAL_SEED"] = noted


def _on_one_device(cfg: DictConfig) -> DictConfig:
    """The config of a training by this process alone, whatever the inversion runs on."""
    cfg = copy.deepcopy(cfg)
    devices = cfg.trainer.get("devices", 1)
    with open_dict(cfg.trainer):
        cfg.trainer.devices = (
            list(devices)[:1]
            if OmegaConf.is_list(devices)
            else devices
            if devices == "one_per_job"
            else 1
        )
        cfg.trainer.num_nodes, cfg.trainer.strategy, cfg.trainer.enable_checkpointing = (
            1,
            "auto",
            True,
        )
    return cfg


def _hash(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _content(path: Path) -> str:
    """Of an .npz file, or of all files in a folder with their places in it, which tell the classes."""
    return _files_hash(path, path.rglob("*") if path.is_dir() else [path])


def _files_hash(root: Path, files: Iterable[Path]) -> str:
    lines = sorted(f"{file.relative_to(root)} {sha256(file)}" for file in files if file.is_file())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _versions(target: str) -> dict[str, str]:
    """Of this package, of torch, and of the package that the network comes from."""
    versions = {}
    for package in ("netinv_lightning", "torch", target.partition(".")[0]):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # a module of the user's own
            continue
    return versions


def _source_hash(target: str) -> str | None:
    """Of the file that defines the network; None if there is no such file, or no such network, which is told later."""
    try:
        file = inspect.getsourcefile(locate(target, "classifier.network._target_"))
    except Exception:  # importing a module of somebody's may raise anything
        return None
    return None if file is None else sha256(Path(file))
