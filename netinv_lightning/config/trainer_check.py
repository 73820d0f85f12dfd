"""Check the arguments of `lightning.Trainer`.

This module does not import torch. Lightning checks the remaining arguments when the Trainer is
built, after torch has been imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from netinv_lightning.config.plain import plain_dict
from netinv_lightning.config.rules import NOT_NEGATIVE, Count, Names, Rule
from netinv_lightning.config.signatures import trainer_keys
from netinv_lightning.errors import InputError, nearest


@dataclass(frozen=True)
class Devices:
    """A number of devices, a list of their indices, or a word. All may be strings."""

    def fault(self, value: Any) -> str:
        if value in ("auto", "one_per_job"):
            return ""
        several = isinstance(value, Sequence) and not isinstance(value, str)
        parts = list(value) if several else str(value).strip(", []").split(",")
        if not parts or not all(_is_whole(part) for part in parts) or isinstance(value, bool):
            return f"must be {self.allowed()}"
        if several or len(parts) > 1:
            return "must contain indices from 0" if min(map(int, parts)) < 0 else ""
        number = int(parts[0])
        return "" if number == -1 or number >= 1 else "must be 1 or more, or -1 for all devices"

    def allowed(self) -> str:
        return "a number of devices, a list of their indices, auto or one_per_job"


@dataclass(frozen=True)
class Limit:
    """A whole number from 1, or -1 for no limit."""

    def fault(self, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int):
            return "must be a whole number"
        return "" if value == -1 or value >= 1 else f"must be {self.allowed()}"

    def allowed(self) -> str:
        return "1 or more, or -1 for no limit"


@dataclass(frozen=True)
class Precision:
    """A precision that Lightning knows, as a name or a number of bits."""

    names: tuple[str, ...]

    def fault(self, value: Any) -> str:
        return Names(self.names).fault(str(value))

    def allowed(self) -> str:
        return Names(self.names).allowed()


MIXED = ("32-true", "bf16-mixed", "16-mixed")
TRAINER_RULES: Mapping[str, Rule] = {
    "accelerator": Names(("auto", "cpu", "gpu", "cuda", "mps")),
    "devices": Devices(),
    "num_nodes": Count(1, 100_000),
    "precision": Precision(
        ("auto", *MIXED, "64-true", "bf16-true", "16-true", "16", "32", "64", "bf16")
    ),
    "max_steps": Limit(),
    "max_epochs": Limit(),
    "accumulate_grad_batches": Count(1, 1_000_000),
    "gradient_clip_val": NOT_NEGATIVE,
    "gradient_clip_algorithm": Names(("norm", "value")),
}
"""The rule of each argument that is often set; None is always allowed."""


def check_trainer_values(cfg: DictConfig) -> None:
    """Refuse arguments that `lightning.Trainer` lacks, and values that are out of range.

    Raises:
        InputError: naming the key.
    """
    known = trainer_keys()
    for key in cfg.trainer if known else ():
        if key not in known:
            raise InputError(
                f"trainer.{key!s}: lightning.Trainer has no such argument; "
                f"{nearest(str(key), known)}"
            )
    values = plain_dict(cfg.trainer)
    for key, rule in TRAINER_RULES.items():
        if (value := values.get(key)) is not None and (fault := rule.fault(value)):
            raise InputError(f"trainer.{key}={value}: {fault}")


def _is_whole(part: object) -> bool:
    return not isinstance(part, bool) and str(part).strip().removeprefix("-").isdecimal()
