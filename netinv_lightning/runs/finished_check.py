"""Check, without torch, that a directory contains a finished inversion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from netinv_lightning import metric_names as names
from netinv_lightning.config.application_schema import APPLICATION_KEYS, INVERSIONS
from netinv_lightning.config.loss_check import check_loss
from netinv_lightning.config.method_schema import METHOD_KEYS, trains_generator
from netinv_lightning.errors import InputError, nearest, one_line
from netinv_lightning.runs.file_check import check_checkpoint
from netinv_lightning.runs.outside_files import read_json
from netinv_lightning.runs.resume import read_config
from netinv_lightning.runs.run_directory import RunDir


def named_run(cfg: DictConfig) -> Path:
    """Return the directory of the finished run that `application.run` names.

    Raises:
        InputError: if it names none.
    """
    if not cfg.application.run:
        raise InputError(
            "application.run: is missing. Give the directory of a finished inversion: "
            "application.run=RUN_DIRECTORY"
        )
    return Path(cfg.application.run)


def check_finished(directory: Path, where: str) -> DictConfig:
    """Return the config of a finished inversion after checking its other files.

    Args:
        directory: The run directory.
        where: The key that names it and its value, for the error.

    Raises:
        InputError: if it is not a finished inversion, or config, summary or checkpoint are damaged.
    """
    if not directory.is_dir():
        raise InputError(
            f"{where}: there is no such directory; give a run directory, such as runs/latest"
        )
    cfg = known_config(directory, where)
    if cfg.application.name not in INVERSIONS:
        raise InputError(
            f"{where}: is a run of application={cfg.application.name}; give a run of "
            f"application={' or '.join(INVERSIONS)}"
        )
    if (state := RunDir(directory).state) != "done":
        raise InputError(f"{where}: is not done ({state}); continue it with resume={directory}")
    summary = read_summary(directory, where)
    if missing := [
        name
        for name in (names.INVERSION_ACCURACY, names.INVERSION_ACCURACY_HOT)
        if name not in summary
    ]:
        raise InputError(
            f"{where}: its summary.json is damaged (it has no {missing[0]}); run it again"
        )
    checkpoint = directory / "checkpoints" / "last.ckpt"
    if checkpoint.exists():
        check_checkpoint(checkpoint, where, "run it again")
    elif trains_generator(cfg):
        raise InputError(
            f"{where}: its generator is missing (no checkpoints/{checkpoint.name}); run it again"
        )
    return cfg


def known_config(directory: Path, where: str, trusted: Sequence[str] = ()) -> DictConfig:
    """Return the config of a run whose application, method and loss this version knows.

    Raises:
        InputError: if it is not a run directory, or its config is damaged or has unknown names.
    """
    cfg = read_config(directory, trusted)
    for group, known in (("application", APPLICATION_KEYS), ("method", METHOD_KEYS)):
        name = cfg[group].get("name") if isinstance(cfg[group], DictConfig) else cfg[group]
        if name not in known:
            raise InputError(
                f"{where}: its config.yaml has {group}.name={name}; {nearest(str(name), known)}"
            )
    try:
        cfg.method = OmegaConf.merge(OmegaConf.structured(METHOD_KEYS[cfg.method.name]), cfg.method)
        check_loss(cfg)
    except (InputError, OmegaConfBaseException) as error:
        raise InputError(
            f"{where}: its config.yaml is damaged or of another version "
            f"({one_line(error)[:160]}); run it again"
        ) from error
    return cfg


def read_summary(directory: Path, where: str) -> dict[str, float]:
    """Return the content of `summary.json`: metric names and finite numbers.

    Raises:
        InputError: beginning with `where`, if it is missing or damaged.
    """
    try:
        summary = read_json(directory / "summary.json", directory)
    except FileNotFoundError:
        raise InputError(
            f"{where}: has no summary.json, which a finished run writes; run it again"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{where}: its summary.json is damaged ({one_line(error)[:120]}); run it again"
        ) from error
    if not isinstance(summary, dict):
        raise InputError(
            f"{where}: its summary.json is damaged (a {type(summary).__name__}, not a mapping); "
            "run it again"
        )
    for name, value in summary.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not math.isfinite(value)
        ):
            raise InputError(
                f"{where}: its summary.json is damaged ({name}={value!s:.40}, not a finite "
                "number); run it again"
            )
    return summary
