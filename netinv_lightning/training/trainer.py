"""Builds the lightning.Trainer of a run; `auto` is replaced by the best choice on this machine."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.accelerators import CPUAccelerator, MPSAccelerator
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, open_dict

from netinv_lightning.config.plain import plain_dict
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.runs.peers import first_process
from netinv_lightning.training.progress import LiveBar

# Lightning prints the accelerators and advice on packages for every Trainer.
for name in (
    "lightning.pytorch",
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.distributed",
):
    logging.getLogger(name).setLevel(logging.WARNING)


MARGIN = 1.1
"""On a CPU, half precision is used if it is faster than float32 by this factor.

On a GPU, half precision is used unless it is slower by this factor."""
TRIAL_SECONDS = 0.3
CHOSEN = "NETINV_PRECISION"
"""Environment variable that passes the choice of the first process to the other ones."""


def best_precision(accelerator: str, measure: bool = True) -> str:
    """Return the faster of float32 and mixed precision for training on this machine.

    A CPU without bfloat16 would emulate it, so it uses float32 without measurement. If the hardware
    supports half precision, a training step of a convolution is timed in both precisions, because
    supported bfloat16 is not always faster (https://github.com/pytorch/pytorch/issues/183815).

    Args:
        accelerator: As `trainer.accelerator`.
        measure: False to decide by the hardware alone: float32 on a CPU, half precision on a GPU.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        if (
            measure
            and half_gain("cuda", torch.bfloat16 if bfloat16 else torch.float16) < 1 / MARGIN
        ):
            return "32-true"
        return "bf16-mixed" if bfloat16 else "16-mixed"
    faster = (
        measure
        and torch.cpu._is_avx512_bf16_supported()
        and half_gain("cpu", torch.bfloat16) >= MARGIN
    )
    return "bf16-mixed" if faster else "32-true"


@cache
@torch.enable_grad()
def half_gain(device: str, dtype: torch.dtype) -> float:
    """Return the speed of a training step of a convolution under autocast, relative to float32.

    It is the fastest of several alternating tries, measured once per process, without random
    numbers.
    """
    x_BCHW = (
        torch.full((48, 24, 28, 28), 0.1, device=device)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
    )
    weight = (
        torch.full((24, 24, 3, 3), 0.1, device=device)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
    )

    def seconds(half: bool) -> float:
        start = time.perf_counter()
        with torch.autocast(device, dtype, enabled=half):
            y_BCHW = F.conv2d(F.conv2d(x_BCHW, weight, padding=1), weight, padding=1)
        y_BCHW.float().mean().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds(False), seconds(True)  # the first try warms up
    start = time.perf_counter()
    single, half = seconds(False), seconds(True)
    while time.perf_counter() - start < TRIAL_SECONDS:
        single, half = min(single, seconds(False)), min(half, seconds(True))
    return single / half


def available_accelerator(accelerator: str) -> str:
    """Return `cpu` if Lightning would choose MPS, which lacks operators; else `accelerator`.

    MPS has neither `grid_sample` with border padding nor float64.
    """
    choose_cpu = (
        accelerator == "auto" and MPSAccelerator.is_available() and not torch.cuda.is_available()
    )
    return "cpu" if choose_cpu else accelerator


def resolve_trainer(cfg: DictConfig) -> list[str]:
    """Replace `auto` in `cfg.trainer` by the choice for this machine; a resumed run keeps it.

    Returns:
        The choices, one line each.
    """
    lines, given = [], str(cfg.trainer.get("accelerator") or "auto")
    if (accelerator := available_accelerator(given)) != given:
        lines.append(
            f"accelerator: {accelerator} (MPS lacks operators that inversion needs; to use it, set "
            "trainer.accelerator=mps)"
        )
    precision = cfg.trainer.get("precision")
    if precision in (None, "auto"):
        several = any(
            os.environ.get(name, "1") not in ("", "1") for name in ("WORLD_SIZE", "SLURM_NTASKS")
        )  # all processes must use the same precision
        precision = os.environ.get(CHOSEN) if not first_process() else None
        precision = precision or best_precision(accelerator, measure=not several)
        os.environ[CHOSEN] = precision
        lines.append(
            f"precision: {precision} (faster on this machine; to choose another, set "
            "trainer.precision)"
        )
    if lines:
        with open_dict(cfg.trainer):
            cfg.trainer.accelerator, cfg.trainer.precision = accelerator, precision
    return lines


PROCESSES_PER_CORE = 4
"""Maximum number of devices (processes) per CPU core; larger values are assumed to be errors."""


MALLOPT = {
    "M_ARENA_MAX": (-8, 1),
    "M_MMAP_THRESHOLD": (-3, 32 << 20),
    "M_TOP_PAD": (-2, 64 << 20),
    "M_TRIM_THRESHOLD": (-1, 2**31 - 1),
}
"""Parameters of mallopt(3) with values: keep freed memory, in one arena for all threads."""


def keep_freed_memory() -> None:
    """Let the C library keep the memory of a step for the next one.

    glibc returns large blocks to the system and requests them again. This causes thousands of page
    faults per training step on a CPU, a quarter of its time or more (experiments/bench). Other C
    libraries are not changed.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for number, value in MALLOPT.values():
            libc.mallopt(number, value)


def check_trainer(cfg: DictConfig) -> int:
    """Refuse values that `lightning.Trainer` does not accept, and devices that are missing.

    Returns:
        Number of processes that the training would use.

    Raises:
        InputError: naming the key.
    """
    try:
        trainer = make_trainer(cfg, callbacks=[], loggers=[], enable_checkpointing=False)
    except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
        raise InputError(f"trainer: {one_line(error)}") from error
    cores = os.cpu_count() or 1
    if (
        isinstance(trainer.accelerator, CPUAccelerator)
        and trainer.num_devices > PROCESSES_PER_CORE * cores
    ):
        raise InputError(
            f"trainer.devices={cfg.trainer.devices}: this machine has {cores} CPU cores; "
            f"set {cores} or less"
        )
    return trainer.world_size


def check_one_process(cfg: DictConfig) -> None:
    """Call `check_trainer` for an application that runs in one process.

    Raises:
        InputError: naming the key.
    """
    if check_trainer(cfg) > 1:
        raise InputError(
            f"trainer.devices={cfg.trainer.devices}: application={cfg.application.name} runs in "
            "one process only; set trainer=default. To use several devices, run one job on each: "
            "netinv -m ... seed=0,1 trainer.devices=one_per_job hydra/launcher=joblib"
        )


def make_trainer(
    cfg: DictConfig, callbacks: list[Callback], loggers: list[Logger], **defaults: Any
) -> L.Trainer:
    """Build the Trainer from the application's `defaults`; `cfg.trainer` has priority."""
    keep_freed_memory()
    given = plain_dict(cfg.trainer)
    keywords = {"enable_model_summary": False, **defaults, **given}
    if keywords.pop("enable_progress_bar", None) is False:
        callbacks = [callback for callback in callbacks if not isinstance(callback, LiveBar)]
    keywords["enable_progress_bar"] = False  # instead of Lightning's, callbacks have a `LiveBar`
    keywords["accelerator"] = available_accelerator(str(keywords.get("accelerator") or "auto"))
    if keywords.get("precision") in (None, "auto"):
        keywords["precision"] = best_precision(keywords["accelerator"])
    with expected_warnings():
        return L.Trainer(callbacks=callbacks, logger=loggers, **keywords)


EXPECTED_WARNINGS = (
    ".*in eval mode at the start of training",  # as intended for the frozen classifier
    "Detected call of `lr_scheduler.step",  # a float16 step whose gradient overflowed was left out
    "GPU available but not used",  # chosen by the user, or by `available_accelerator`
    "The number of training batches",  # short epochs of small data sets
    "Checkpoint directory .* exists and is not empty",  # a resumed run
    # Batches are generated, not read from a data loader.
    "You're resuming from a checkpoint that ended before the epoch ended",
    ".*LeafSpec.*",  # Lightning's use of torch's internals
    ".*treespec.*",
)


@contextmanager
def expected_warnings() -> Iterator[None]:
    """Silence warnings of Lightning about intended behaviour."""
    with warnings.catch_warnings():
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        yield
