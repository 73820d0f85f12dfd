"""Convert errors of Hydra and OmegaConf to one line: key, value, what is allowed, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from netinv_lightning.config.schema import (
    APPLICATION_KEYS,
    CONF,
    METHOD_KEYS,
    Config,
    GarbageConfig,
)
from netinv_lightning.config.signatures import trainer_keys
from netinv_lightning.errors import InputError, nearest, one_line

_EXTRAS = {
    "hydra/sweeper=optuna": "optuna",
    "hydra/launcher=joblib": "sweep",
    "hydra/launcher=submitit_local": "slurm",
    "hydra/launcher=submitit_slurm": "slurm",
}
"""Choices that need an extra of pyproject.toml."""


_KEYS_OF_CHOICES = {"application": APPLICATION_KEYS, "method": METHOD_KEYS}
"""Groups whose choices have different keys."""


def explain(error: BaseException) -> str:
    """Return one line for the user from an error that composing the config raised."""
    for link in _chain(error):
        if isinstance(link, InputError):
            return one_line(link)
    text = "\n".join(str(link) for link in _chain(error))
    if found := re.search(
        r"Could not override '([\w/@]+)'.*?No match in the defaults list", text, re.DOTALL
    ):
        group = found[1]
        return (
            f"{group}=...: {group} is not a group of the defaults; add it with a plus: +{group}=..."
        )
    if found := re.search(r"Could not (?:find|load) '([^']+)'", text):
        group, _, choice = found[1].rpartition("/")
        if extra := _EXTRAS.get(f"{group}={choice}"):
            return f"{group}={choice}: is not installed; install the extra: pip install 'netinv_lightning[{extra}]'"
        options = [
            line.strip()
            for line in text.partition("Available options in")[2]
            .partition("Config search path")[0]
            .splitlines()[1:]
            if line.strip()
        ]
        if not options:
            group, _, choice = found[1].partition("/")
        options = options or sorted(
            str(path.relative_to(CONF / group))[:-5] for path in (CONF / group).rglob("*.yaml")
        )
        return f"{group}={choice}: there is no such choice; {nearest(choice, [option for option in options if 'schema' not in option])}"
    if found := re.search(r"Error parsing override '([^']*)'\s+missing EQUAL", text):
        return f"{found[1]}: is neither KEY=VALUE nor a command (its first word); netinv --help lists commands, groups and keys"
    if (
        found := re.search(r"Error merging override ([\w.]+)=null", text)
    ) and "is not Optional" in text:
        return f"{found[1]}=null: must have a value; leave it out for the default"
    if found := re.search(
        r"(Interpolation key '.*?' not found|Environment variable '.*?' not found|Unsupported interpolation type \S+)",
        text,
    ):
        key = _first(r"full_key: ([\w.]+)", text)
        return f"{key}: an interpolation in its value cannot be resolved ({found[1]}); write a literal dollar before a brace as \\$"
    if found := re.search(r"Could not append to config. An item is already at '([\w.]+)'", text):
        return f"+{found[1]}: is a key already; set it without the plus: {found[1]}=VALUE"
    if found := re.search(
        r"Could not delete from config. (?:'([\w.]+)' does not exist|The value of '([\w.]+)' is (.*?) and not)",
        text,
    ):
        if found[2]:
            return (
                f"~{found[2]}: its value is {found[3]}; remove it without a value, as ~{found[2]}"
            )
        near = nearest(found[1], _all_keys())
        return f"~{found[1]}: there is no such key to remove; {near if near.startswith('did') else 'netinv --help lists all keys'}"
    if found := re.search(r"Missing mandatory value: ([\w.]+)", text):
        return f"{found[1]}: must be given, as {found[1]}=VALUE"
    key = _first(r"full_key: ([\w.]+)", text)
    if (
        found := re.search(r"override '?\+{0,2}garbage\.(\w+)(?:\.(\w+))?", text)
    ) and "could not be converted" not in text:
        return _of_garbage(found[1], found[2] or "")
    if re.search(r"is not in struct|not in '\w+'", text):
        key = _first(r"Could not (?:override|append to config)[^']*'\+{0,2}([\w.]+)'", text) or key
        group, _, name = key.partition(".")
        if group == "trainer" and name in trainer_keys():
            return (
                f"{key}: is an argument of lightning.Trainer that has no default here; add it with "
                f"a plus: +{key}=VALUE"
            )
        if owners := [
            choice
            for choice, keys in _KEYS_OF_CHOICES.get(group, {}).items()
            if name in {key.name for key in fields(keys)}
        ]:
            jobs = (
                f", or for the jobs of a benchmark 'application.overrides=[\"{key}=...\"]'"
                if group == "application"
                else ""
            )
            return f"{key}: is a key of {' and '.join(f'{group}={choice}' for choice in owners)}; choose that{jobs}"
        known = [
            other for other in _all_keys() if other != key
        ]  # a key of another application is unknown here
        same_name = [other for other in known if other.rpartition(".")[2] == key.rpartition(".")[2]]
        return f"{key}: there is no such key; {nearest(key, same_name or known)}"
    if found := re.search(
        r"Value '(.*?)' (?:of type '\w+' )?(?:could not be converted to|is not a valid) ?(\w+)?",
        text,
    ):
        kind = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}.get(
            found[2] or "", f"a {found[2]}"
        )
        return f"{key}={found[1]}: must be {kind}"
    return one_line(error)


def _of_garbage(choice: str, key: str) -> str:
    """Return the message for a wrong key of a garbage class, whose keys exist once it is chosen."""
    known, choices = (
        {field.name for field in fields(GarbageConfig)},
        [path.stem for path in (CONF / "garbage").glob("*.yaml")],
    )
    if choice not in choices:
        return f"garbage.{choice}: there is no such choice; {nearest(choice, choices)} A custom choice is a file garbage/{choice}.yaml"
    if key and key not in known:
        return f"garbage.{choice}.{key}: there is no such key; {nearest(key, known)}"
    return f"garbage.{choice}.{key}: is a key of garbage={choice}; choose that too"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else ""


def _all_keys() -> list[str]:
    """Return every key of the default config."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config")
    GlobalHydra.instance().clear()
    return sorted({*_flat(OmegaConf.structured(Config)), *_flat(cfg)})


def _flat(cfg: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, cfg):
        yield f"{prefix}{key}"
        value: Any = (
            None
            if OmegaConf.is_missing(cfg, key) or OmegaConf.is_interpolation(cfg, key)
            else cfg[key]
        )
        if isinstance(value, DictConfig):
            yield from _flat(value, f"{prefix}{key}.")
