"""`resume=<run directory>`: which config a continued run has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from netinv_lightning.application_keys import APPLICATION_KEYS, INVERSIONS
from netinv_lightning.config import Config
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.run_dir import RunDir
from netinv_lightning.trust import check_targets

CHANGEABLE = (
    "application.steps",
    "application.eval_",
    "application.grid_",
    "application.keep_samples",
    "measure",
    "interpret",
    "trainer",
    "logger",
    "output",
    "sweep_output",
    "resume",
)
"""Keys that a continued run may change: how long and where, not what."""


def read_config(run_dir: Path, trusted: Sequence[str] = ()) -> DictConfig:
    """Reads the config of a run directory.

    Args:
        run_dir: The run directory.
        trusted: Further beginnings of a `_target_`, for networks of your own.

    Raises:
        InputError: if it is no run directory, its config is damaged, or it names code outside the allow-list.
    """
    path = run_dir / "config.yaml"
    if not path.is_file():  # status.json comes a moment later: a run that is killed in between can go on too
        raise InputError(f"{run_dir}: is no run directory (it has no config.yaml); give one below runs/")
    try:
        cfg = OmegaConf.load(path)
        assert isinstance(cfg, DictConfig)
        schema = OmegaConf.structured(Config)
        application = APPLICATION_KEYS.get(cfg.application.name)
        if application is not None:
            schema.application = OmegaConf.structured(application)
        cfg = OmegaConf.merge(schema, cfg)
        assert isinstance(cfg, DictConfig)
    except OmegaConfBaseException as error:  # whose further lines name types
        raise InputError(
            f"{path}: is not the config of a run of this version ({str(error).partition(chr(10))[0]}); run it again"
        ) from error
    except (yaml.YAMLError, ValueError, AttributeError, AssertionError) as error:
        raise InputError(f"{path}: is not a run's config ({one_line(error)})") from error
    check_targets(OmegaConf.to_container(cfg), str(path), trusted)
    return cfg


def resumed_config(cfg: DictConfig, overrides: list[str]) -> DictConfig:
    """The saved config of `cfg.resume`; what the command line adds may only prolong the run or change its loggers.

    Raises:
        InputError: if the directory holds no unfinished run, or the command line asks for another model.
    """
    run_dir = Path(cfg.resume)
    named = [override.split("=", 1)[1] for override in overrides if "_target_=" in override]
    saved = read_config(run_dir, trusted=named)
    given = [override.split("=")[0] for override in overrides if not override.startswith("resume=")]
    if not given and RunDir(run_dir).state == "done":
        longer = "; to prolong it, give more steps: application.steps=N" if saved.application.name in INVERSIONS else ""
        raise InputError(f"resume={cfg.resume}: the run is done{longer}")
    if all(not key.startswith(("+", "~")) and not _is_group(saved, key) for key in given):  # a few keys on top of the saved config
        refused = [key for key in given if _fixed(key) and "_target_" not in key]
        for key in given:
            OmegaConf.update(saved, key, OmegaConf.select(cfg, key))
    else:  # the whole command again
        refused = changed_keys(saved, cfg)
        saved = cfg
    if refused:
        raise InputError(
            f"resume={cfg.resume}: {', '.join(refused[:3])} may not change in a continued run; leave it out, or start a new run"
        )
    saved.resume = cfg.resume  # so that whatever cannot go on refuses to
    return saved


def refuse_resume(cfg: DictConfig) -> None:
    """Refuses to go on with an application that keeps no checkpoints.

    Raises:
        InputError: if `resume` is given.
    """
    if cfg.resume is not None:
        raise InputError(f"resume={cfg.resume}: application={cfg.application.name} keeps no checkpoints; start it anew")


def _is_group(cfg: DictConfig, key: str) -> bool:
    return "/" in key or "@" in key or isinstance(OmegaConf.select(cfg, key), DictConfig)


def changed_keys(saved: DictConfig, cfg: DictConfig) -> list[str]:
    """Keys in which two configs differ and a continued run may not."""
    differing = _differing(OmegaConf.to_container(saved, resolve=True), OmegaConf.to_container(cfg, resolve=True))
    return [key for key in differing if _fixed(key)]


def _fixed(key: str) -> bool:
    return not key.startswith(CHANGEABLE)


def _differing(saved: Any, given: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(saved, dict) and isinstance(given, dict):
        for key in {**saved, **given}:
            yield from _differing(saved.get(key), given.get(key), f"{prefix}.{key}" if prefix else str(key))
    elif saved != given:
        yield prefix
