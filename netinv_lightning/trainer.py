"""The lightning.Trainer of a run: the config's keys, and what this machine does best where they say `auto`."""

from __future__ import annotations

import ctypes
import inspect
import logging
import os
import platform
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from netinv_lightning.errors import InputError, nearest, one_line

# Lightning tells at every Trainer which accelerators there are and what else could be installed.
for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.distributed"):
    logging.getLogger(name).setLevel(logging.WARNING)


def best_precision(accelerator: str) -> str:
    """bfloat16 autocast where the processor computes in it; elsewhere it is emulated, and slower than float32."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"


PROCESSES_A_CORE = 4
"""On a CPU a "device" is a process; more of them than this on one core is a slip of the finger."""


MALLOPT = {"M_ARENA_MAX": (-8, 1), "M_MMAP_THRESHOLD": (-3, 32 << 20), "M_TOP_PAD": (-2, 64 << 20), "M_TRIM_THRESHOLD": (-1, 2**31 - 1)}
"""Numbers of mallopt(3), and values: keep what is freed for the next step, in one arena for all threads."""


def keep_freed_memory() -> None:
    """Lets the C library keep the memory of a step for the next one.

    glibc gives large blocks back to the system and takes them again: thousands of page faults a training step on a CPU,
    a quarter of its time and more (experiments/bench). Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for number, value in MALLOPT.values():
            libc.mallopt(number, value)


def check_trainer(cfg: DictConfig) -> int:
    """Refuses what `lightning.Trainer` does not know or this machine does not have, before anything is written.

    Returns:
        How many processes would train.

    Raises:
        InputError: naming the key.
    """
    allowed = set(inspect.signature(L.Trainer.__init__).parameters) - {"self", "logger", "callbacks"}
    for key in cfg.trainer:
        if key not in allowed:
            raise InputError(f"trainer.{key}: lightning.Trainer has no such argument; {nearest(str(key), allowed)}")
    try:
        trainer = make_trainer(cfg, callbacks=[], loggers=[], enable_checkpointing=False)
    except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
        raise InputError(f"trainer: {one_line(error)}") from error
    cores = os.cpu_count() or 1
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > PROCESSES_A_CORE * cores:
        raise InputError(f"trainer.devices={cfg.trainer.devices}: this machine has {cores} CPU cores; set {cores} or less")
    return trainer.world_size


def check_one_process(cfg: DictConfig) -> None:
    """`check_trainer`, for an application that nothing shares out over processes.

    Raises:
        InputError: naming the key.
    """
    if check_trainer(cfg) > 1:
        raise InputError(
            f"trainer.devices={cfg.trainer.devices}: application={cfg.application.name} works in one process; set trainer=default"
        )


def make_trainer(cfg: DictConfig, callbacks: list[Callback], loggers: list[Logger], **defaults: Any) -> L.Trainer:
    """Makes the Trainer: `defaults` are the application's, `cfg.trainer` is the user's and wins."""
    keep_freed_memory()
    given = OmegaConf.to_container(cfg.trainer, resolve=True)
    assert isinstance(given, dict)
    keywords = {"enable_progress_bar": on_terminal(), "enable_model_summary": False, **defaults, **given}
    if keywords.get("precision") in (None, "auto"):
        keywords["precision"] = best_precision(str(keywords.get("accelerator", "auto")))
    return L.Trainer(callbacks=callbacks, logger=loggers, **keywords)


EXPECTED_WARNINGS = (
    ".*in eval mode at the start of training",  # the frozen classifier is meant to be
    "The number of training batches",  # short epochs of small data sets
    "Checkpoint directory .* exists and is not empty",  # a resumed run
    "You're resuming from a checkpoint that ended before the epoch ended",  # steps are drawn afresh, not read
    ".*LeafSpec.*",  # Lightning's use of torch's internals
    ".*treespec.*",
)


@contextmanager
def expected_warnings() -> Iterator[None]:
    """Silences what Lightning warns of and this project intends; every other warning is shown."""
    with warnings.catch_warnings():
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        yield


def on_terminal() -> bool:
    """Whether somebody watches: then a live bar is drawn."""
    return sys.stderr.isatty()
