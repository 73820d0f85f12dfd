"""Cache of classifiers that `classifier.train=true` trains, by a hash of config, data and code.

    <kept_in>/<data>_<network>_<hash>/classifier.safetensors    the weights
    <kept_in>/<data>_<network>_<hash>/classifier.json           the model card, with what was hashed

The card is written last and contains the sha256 of the weights, so a killed training never leaves a
valid entry. Its checkpoint stays in the same folder; the next run that needs the classifier resumes
the training. The training process holds a lock, which the operating system releases if the process
dies. Other processes that need the same classifier wait for the lock. A damaged entry is trained
again.
"""

from __future__ import annotations

import copy
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.seed import isolate_rng
from omegaconf import DictConfig, OmegaConf, open_dict

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.architecture import SHAPE_KEYS, SPEC_KEYS
from netinv_lightning.classifiers.checkpoints import (
    fill,
    load_weights,
    read_card,
    save_classifier,
)
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.hashes import (
    content_hash,
    facts_hash,
    files_hash,
    source_hash,
    versions,
)
from netinv_lightning.classifiers.training import ClassifierTraining, DivergedError, recipe_seed
from netinv_lightning.config.plain import plain_dict
from netinv_lightning.data.datamodule import OWN_IMAGES
from netinv_lightning.errors import InputError
from netinv_lightning.runs.peers import first_process
from netinv_lightning.training.trainer import make_trainer

PACKAGE = Path(__file__).resolve().parent.parent
OWN_CODE = ("classifiers/*.py", "data/*.py", "training/trainer.py")
"""The source files of this package that determine the trained weights."""
NOT_OF_THE_WEIGHTS = {
    "accelerator", "precision",  # hashed as resolved on this machine
    "devices", "num_nodes", "strategy",  # always one device
    "default_root_dir", "enable_checkpointing", "enable_model_summary", "enable_progress_bar",
    "log_every_n_steps", "num_sanity_val_steps", "profiler",
}  # fmt: skip
"""Keys of `trainer` that do not affect the weights; the others are hashed."""


def train_once(
    cfg: DictConfig, classifier: FrozenClassifier, run_dir: Path | None = None
) -> dict[str, float]:
    """Load the weights of `classifier.train=true` from the cache, or train them and add them to it.

    The global random numbers are the same afterwards in both cases.

    Args:
        cfg: The config; nothing happens unless `classifier.train` is set.
        classifier: The result of `load_classifier(cfg)`; its weights are changed in place.
        run_dir: Run directory that gets a copy of the file and its card, so that the run can be
            loaded without the cache.

    Returns:
        The test accuracy, and the seconds of the training if it was trained now.
    """
    if not cfg.classifier.train:
        return {}
    path = cache_path(cfg)
    metrics: dict[str, float] = {}
    if cached_card(path) is None:
        with _locked(path):
            if cached_card(path) is None:  # else another process has trained it meanwhile
                metrics[names.CLASSIFIER_TRAINING_SECONDS] = _train(cfg, path)
    card = read_card(path)
    assert card is not None
    fill(classifier.network, load_weights(path), f"classifier.kept_in: {path}")
    classifier.trained = True
    if run_dir is not None and first_process():
        for file in (path, path.with_suffix(".json")):
            shutil.copyfile(file, run_dir / file.name)
    accuracy = float(card["test_accuracy"])
    origin = "trained" if metrics else "from the cache"
    print(f"classifier: {path}  test accuracy {accuracy:.4f}  ({origin})", flush=True)
    if math.isfinite(accuracy):  # else there are no test images
        metrics[names.CLASSIFIER_TEST_ACCURACY] = accuracy
    return metrics


def untrained(cfg: DictConfig) -> FrozenClassifier:
    """Return the classifier that `train_once` will train; everything that it needs is checked.

    Raises:
        InputError: if it cannot be trained, or the cache cannot be written.
    """
    # The generator was trained against the copy in the run directory; no other may replace it.
    if cfg.resume is not None and (Path(cfg.resume) / "classifier.json").is_file():
        raise InputError(
            f"resume={cfg.resume}: its classifier is not in the cache, "
            f"classifier.kept_in={cfg.classifier.kept_in}; it was removed, or its data, a key of "
            f"trainer, the code or a version changed since ({cache_path(cfg).parent.name} is "
            "missing); start a new run"
        )
    folder = Path(cfg.classifier.kept_in).absolute()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InputError(
            f"classifier.kept_in={cfg.classifier.kept_in}: is not writable; set it, or "
            "NETINV_CLASSIFIERS, to a writable folder"
        )
    with _randomness_untouched():
        frozen = ClassifierTraining(_on_one_device(cfg)).frozen
    frozen.trained = False
    return frozen.requires_grad_(False).eval()


def cache_path(cfg: DictConfig) -> Path:
    """Return the path in the cache of the classifier that `cfg` determines; it may not exist."""
    facts = determined_by(cfg)
    network, data = facts["network"], facts["data"]
    label = (
        network.get("model_name")
        or network.get("name")
        or str(network["_target_"]).rpartition(".")[2]
    )
    name = Path(cfg.data.path).stem if facts["images"] else data["name"]
    folder = re.sub(r"[^\w.-]+", "-", f"{name}_{str(label).lower()}_{facts_hash(facts)[:12]}")
    return Path(cfg.classifier.kept_in) / folder / "classifier.safetensors"


def cached_card(path: Path) -> dict[str, Any] | None:
    """Return the model card of the cached classifier; None if it is missing or damaged."""
    if not path.with_suffix(".json").is_file():
        return None
    try:
        return read_card(path)
    except InputError:
        return None


def determined_by(cfg: DictConfig) -> dict[str, Any]:
    """Return what determines a trained classifier: network, data, recipe, seed, trainer, code, ...

    Known data sets are identified by their name; a user's own images are read and hashed.
    """
    plain = plain_dict(cfg)
    network, data = plain["classifier"]["network"], plain["data"]
    own = [
        key for key in ("path", "test_path") if data["name"] in OWN_IMAGES and data[key] is not None
    ]
    # A Trainer resolves the device and precision that `auto` stands for on this machine.
    trainer = make_trainer(
        _on_one_device(cfg), callbacks=[], loggers=[], plugins=[LightningEnvironment()]
    )
    return {
        "network": network,
        "spec": {
            key: plain["classifier"][key]
            for key in (*SPEC_KEYS, *SHAPE_KEYS, "output", "output_kind")
        },
        "data": {
            key: value for key, value in data.items() if key not in ("root", "path", "test_path")
        },
        "images": {key: content_hash(Path(data[key])) for key in own},
        "recipe": {**plain["recipe"], "seed": recipe_seed(cfg)},
        "trainer": {
            key: value for key, value in plain["trainer"].items() if key not in NOT_OF_THE_WEIGHTS
        },
        "precision": trainer.precision,
        "device": trainer.strategy.root_device.type,
        "versions": versions(str(network["_target_"])),
        "code": files_hash(
            PACKAGE, (file for pattern in OWN_CODE for file in PACKAGE.glob(pattern))
        ),
        "network_code": source_hash(str(network["_target_"])),
    }


def _train(cfg: DictConfig, path: Path) -> float:
    """Train the classifier and add it to the cache; return the seconds of the training."""
    if path.with_suffix(".json").is_file():
        print(f"classifier: {path} is damaged; it is trained again", file=sys.stderr, flush=True)
    facts = determined_by(cfg)
    with _randomness_untouched():
        training = ClassifierTraining(_on_one_device(cfg))
        checkpoint = path.with_name("training.ckpt")  # a killed training is resumed from it
        try:
            metrics = training.run([], checkpoint, resuming=True, plugins=[LightningEnvironment()])
        except DivergedError:
            checkpoint.unlink(missing_ok=True)
            raise
    save_classifier(
        path,
        training.network,
        {**training.card(path.stem, metrics), "hash": facts_hash(facts), "determined_by": facts},
    )
    checkpoint.unlink()
    return metrics[names.TRAINING_SECONDS]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Context that holds the lock of a cache entry; prints a line if it has to wait."""
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
    """Context that restores the random state at its end, including Lightning's stored seed."""
    noted = os.environ.get("PL_GLOBAL_SEED")
    with isolate_rng():
        yield
    os.environ.pop("PL_GLOBAL_SEED", None)
    if noted is not None:
        os.environ["PL_GLOBAL_SEED"] = noted


def _on_one_device(cfg: DictConfig) -> DictConfig:
    """Return the config of a training by this process alone, on one device."""
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
