"""`resume=<run directory>`: the config of a resumed run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from netinv_lightning.config.application_schema import APPLICATION_KEYS, INVERSIONS
from netinv_lightning.config.description_check import named_code, without_interpolations
from netinv_lightning.config.loss_terms import settled
from netinv_lightning.config.method_schema import trains_generator
from netinv_lightning.config.outside_config import WRITTEN, check_place, check_run_config
from netinv_lightning.config.schema import Config
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.runs.outside_files import MAX_CONFIG_BYTES, check_yaml, read_text
from netinv_lightning.runs.run_directory import RunDir

CHANGEABLE = (
    "application.eval_",
    "application.fail_if",
    "application.grid_",
    "application.keep_samples",
    "application.micro_batch",
    "application.recompute",
    "application.checkpoint_every",
    "measure",
    "interpret",
    "trainer",
    "logger",
    "output",
    "sweep_output",
    "resume",
    "trusted",
)
"""Prefixes of keys that a resumed run may change: devices, and what is measured and logged."""
SCHEDULED = ("application.steps", "trainer.max_steps", "trainer.max_epochs")
"""Keys that set the length of training. Only inversions can be trained longer."""
PLACES = ("resume", "output", "sweep_output", "trusted")
"""Keys that do not change the results of a run."""


def read_config(run_dir: Path, trusted: Sequence[str] = ()) -> DictConfig:
    """Return the config of a run directory, which may come from another person.

    Args:
        run_dir: The run directory.
        trusted: Dotted names of code, and packages, that the config may name.

    Raises:
        InputError: if it is not a run directory, or its config is damaged, contains an
            interpolation, or names code outside the allow-list and `trusted`, the network, or a
            place outside the directory (`netinv_lightning.config.outside_config`).
    """
    path = run_dir / "config.yaml"
    try:
        text = read_text(path, run_dir, MAX_CONFIG_BYTES)
    # A run that was killed before status.json was written can be resumed too.
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{run_dir}: is not a run directory (it has no config.yaml); give a directory in runs/"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or one_line(error)})") from error
    try:
        check_yaml(text, str(path))
        content = OmegaConf.to_container(OmegaConf.create(text))
        assert isinstance(content, dict)
        content.pop("trusted", None)  # only the command line can trust code
        schema = _schema(content["application"]["name"])
        cfg = OmegaConf.merge(schema, without_interpolations(content))  # refuses unknown keys
        check_run_config(content, str(path), trusted)  # refuses the interpolations
        assert isinstance(cfg, DictConfig)
    except InputError:
        raise
    except OmegaConfBaseException as error:  # its further lines name types
        raise InputError(
            f"{path}: is not the config of a run of this version "
            f"({str(error).partition(chr(10))[0]}); run it again"
        ) from error
    except (
        yaml.YAMLError,
        ValueError,
        AttributeError,
        KeyError,
        TypeError,
        AssertionError,
    ) as error:
        raise InputError(f"{path}: is not a run's config ({one_line(error)})") from error
    return cfg


@cache
def _schema(application: object) -> DictConfig:
    """Return the schema of a run of an application, which the caller must not change."""
    schema = OmegaConf.structured(Config)
    if application in APPLICATION_KEYS:
        schema.application = OmegaConf.structured(APPLICATION_KEYS[application])
    return schema


def resumed_config(cfg: DictConfig, overrides: list[str]) -> DictConfig:
    """Return the saved config of `cfg.resume` with the changes of the command line.

    Raises:
        InputError: if the run is finished and nothing is added, if a fixed key changes, or if the
            run has done more steps than requested.
    """
    directory = Path(cfg.resume)
    saved = read_config(
        directory, trusted=[*named_code(OmegaConf.to_container(cfg, resolve=True)), *cfg.trusted]
    )
    given = [override.split("=")[0] for override in overrides if not override.startswith("resume=")]
    repeated = any(key.startswith(("+", "~")) or _is_group(saved, key) for key in given)
    if repeated:  # the command line repeats the whole command
        resumed = _with_values_of_the_run(saved, cfg, given)
        resumed.loss = settled(resumed.loss, saved.loss)  # only terms that the run used
        refused = changed_keys(saved, resumed)
    else:
        resumed, refused = _with_changes(saved, cfg, given)
    if resumed.trainer.get("precision") in (None, "auto"):  # the choice of `auto` is kept
        resumed.trainer.precision = saved.trainer.get("precision")
    if refused:
        raise InputError(
            f"resume={cfg.resume}: {', '.join(refused[:3])} cannot be changed in a resumed run; "
            "leave out the change, or start a new run"
        )
    if not repeated:
        _check_places(resumed, cfg, given)
    finished = RunDir(directory).state == "done"
    if finished:
        _check_worth_resuming(saved, resumed, cfg.resume)
    _check_steps(saved, resumed, directory, finished)
    resumed.resume = cfg.resume
    return resumed


def _with_changes(
    saved: DictConfig, cfg: DictConfig, given: list[str]
) -> tuple[DictConfig, list[str]]:
    """Return the saved config with the changes, and the changed keys that are not allowed.

    Args:
        saved: The config in the run directory.
        cfg: The config of the command.
        given: The keys that the command sets.
    """
    resumed = saved.copy()
    changed = [key for key in given if OmegaConf.select(saved, key) != OmegaConf.select(cfg, key)]
    for key in given:
        OmegaConf.update(resumed, key, OmegaConf.select(cfg, key))
    return resumed, [key for key in changed if _fixed(key, saved) and "_target_" not in key]


def _check_places(resumed: DictConfig, cfg: DictConfig, given: list[str]) -> None:
    """Refuse an output path of the saved config outside the working directory.

    Raises:
        InputError: naming the key and the place.
    """
    for place in WRITTEN:
        if place not in given and (path := OmegaConf.select(resumed, place)) not in (
            None,
            OmegaConf.select(cfg, place),
        ):
            check_place(place, path, f"resume={cfg.resume}")


def _with_values_of_the_run(saved: DictConfig, cfg: DictConfig, given: list[str]) -> DictConfig:
    """Return the config of a repeated command, completed by the run `application.run`.

    The saved config contains the classifier and the data of that run; the command does not.
    """
    of_run = saved.application.get("run")
    if not of_run or saved.application.name != cfg.application.name:
        return cfg
    cfg = cfg.copy()
    if cfg.application.run and Path(cfg.application.run).resolve() == Path(of_run).resolve():
        cfg.application.run = of_run
    for section in ("classifier", "data"):
        for key, value in saved[section].items():
            by_choice = section in given and (section, key) != ("data", "root")
            if not by_choice and f"{section}.{key}" not in given:
                cfg[section][key] = value
    return cfg


def _check_worth_resuming(saved: DictConfig, resumed: DictConfig, directory: str) -> None:
    """Refuse a finished run to which nothing is added.

    Raises:
        InputError: naming what can be added.
    """
    before, asked = (OmegaConf.to_container(of, resolve=True) for of in (saved, resumed))
    changed = [
        key
        for key in _differing(before, asked)
        if key not in PLACES and OmegaConf.select(resumed, key) != "auto"
    ]
    if saved.application.name not in INVERSIONS:
        what = f"; to change {', '.join(changed[:3])}, start a new run" if changed else ""
        raise InputError(f"resume={directory}: the run is finished{what}")
    if not changed:
        longer = (
            f"; to train longer, set application.steps above {_steps(saved)}"
            if trains_generator(saved)
            else ""
        )
        raise InputError(f"resume={directory}: the run is finished{longer}")


def _check_steps(saved: DictConfig, resumed: DictConfig, directory: Path, finished: bool) -> None:
    """Refuse fewer steps than an inversion has done.

    Raises:
        InputError: naming both numbers.
    """
    if saved.application.name not in INVERSIONS or (asked := _steps(resumed)) >= _steps(saved):
        return
    taken = (
        _steps(saved) if finished else _steps_of_checkpoint(directory / "checkpoints" / "last.ckpt")
    )
    if asked < taken:
        raise InputError(
            f"application.steps={asked}: the run in {directory} has done {taken} steps; set "
            f"{taken} or more, or start a new run"
        )


def _steps(cfg: DictConfig) -> int:
    """Return the steps of an inversion; `trainer.max_steps` has priority, as in `make_trainer`."""
    most = cfg.trainer.get("max_steps") or 0
    return int(most if most > 0 else cfg.application.steps)


def _steps_of_checkpoint(path: Path) -> int:
    if not path.is_file():
        return 0
    import torch  # slow to import, and rarely needed here

    try:
        return int(
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"]
        )
    except Exception as error:  # a damaged file raises many kinds of errors
        raise InputError(
            f"{path}: cannot be read ({one_line(error)}); remove it to train from the start"
        ) from error


def _is_group(cfg: DictConfig, key: str) -> bool:
    return "/" in key or "@" in key or isinstance(OmegaConf.select(cfg, key), DictConfig)


def changed_keys(saved: DictConfig, cfg: DictConfig) -> list[str]:
    """Return the keys that differ between two configs and that a resumed run may not change."""
    differing = _differing(
        OmegaConf.to_container(saved, resolve=True), OmegaConf.to_container(cfg, resolve=True)
    )
    return [key for key in differing if _fixed(key, saved)]


def _fixed(key: str, saved: DictConfig) -> bool:
    """Return whether a resumed run may not change a key."""
    if key in SCHEDULED:
        return (
            key == "trainer.max_epochs"
            or saved.application.name not in INVERSIONS
            or not trains_generator(saved)
        )
    return not key.startswith(CHANGEABLE)


def _differing(saved: Any, given: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(saved, dict) and isinstance(given, dict):
        for key in {**saved, **given}:
            yield from _differing(
                saved.get(key), given.get(key), f"{prefix}.{key}" if prefix else str(key)
            )
    elif saved != given:
        yield prefix
