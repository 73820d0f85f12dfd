"""The lightning.Trainer of a run: the config's keys, and what this machine does best where they say `auto`."""

from __future__ import annotations

import sys
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from netinv_lightning.errors import InputError, nearest, one_line


def best_precision(accelerator: str) -> str:
    """bfloat16 autocast where the processor computes in it; elsewhere it is emulated, and slower than float32."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"


def make_trainer(cfg: DictConfig, callbacks: list[Callback], loggers: list[Logger], **defaults: Any) -> L.Trainer:
    """Makes the Trainer: `defaults` are the application's, `cfg.trainer` is the user's and wins.

    Raises:
        InputError: if Lightning does not know a key of `trainer`, or cannot have a value of it.
    """
    import inspect

    given = OmegaConf.to_container(cfg.trainer, resolve=True)
    assert isinstance(given, dict)
    keywords = {"enable_progress_bar": False, "enable_model_summary": False, **defaults, **{str(key): value for key, value in given.items()}}
    allowed = set(inspect.signature(L.Trainer.__init__).parameters) - {"self", "logger", "callbacks"}
    for key in keywords:
        if key not in allowed:
            raise InputError(f"trainer.{key}: lightning.Trainer has no such argument; {nearest(key, allowed)}")
    if keywords.get("precision") in (None, "auto"):
        keywords["precision"] = best_precision(str(keywords.get("accelerator", "auto")))
    try:
        return L.Trainer(callbacks=callbacks, logger=loggers, **keywords)
    except (ValueError, TypeError, RuntimeError) as error:  # also Lightning's MisconfigurationException
        raise InputError(f"trainer: {one_line(error)}") from error


def on_terminal() -> bool:
    return sys.stderr.isatty()
