"""Convert errors of Hydra and OmegaConf to one line: key, value, what is allowed, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from netinv_lightning.config.application_schema import APPLICATION_KEYS
from netinv_lightning.config.garbage_schema import GarbageConfig
from netinv_lightning.config.loss_terms import LOSS_TERMS
from netinv_lightning.config.method_schema import METHOD_KEYS
from netinv_lightning.config.registration import CONF
from netinv_lightning.config.schema import Config
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
    """Return a one-line message for an error that was raised while the config was composed."""
    for link in _chain(error):
        if isinstance(link, InputError):
            return one_line(link)
    text = "\n".join(str(link) for link in _chain(error))
    explanations = (
        _group_without_plus,
        _unknown_choice,
        _no_equals_sign,
        _null,
        _interpolation,
        _plus_for_known_key,
        _nothing_to_remove,
        _missing_value,
        _key_of_garbage,
        _unknown_key,
        _wrong_type,
        _not_a_list,
        _not_a_mapping,
        _not_text,
    )
    return next((line for of in explanations if (line := of(text))), one_line(error))


def explain_refusal(error: BaseException, words: Iterable[str]) -> str:
    """Return one line from an error of Python that Hydra raises for some command lines.

    Args:
        error: The error.
        words: The words of the command line.
    """
    if any(word.lstrip("+").startswith("classifier.network") for word in words):
        return (
            "classifier.network: needs a choice of classifier, such as classifier=cnn for a "
            "network to train, or classifier=checkpoint classifier.path=FILE for a trained one"
        )
    return f"the command line is invalid ({one_line(error)}). See netinv --help"


def _group_without_plus(text: str) -> str:
    group = _first(r"(?s)Could not override '([\w/@]+)'.*?No match in the defaults list", text)
    if not group:
        return ""
    return f"{group}=...: {group} is not a group of the defaults; add it with a plus: +{group}=..."


def _unknown_choice(text: str) -> str:
    found = _first(r"Could not (?:find|load) '([^']+)'", text)
    if not found:
        return ""
    group, _, choice = found.rpartition("/")
    if extra := _EXTRAS.get(f"{group}={choice}"):
        return (
            f"{group}={choice}: is not installed; install the extra: "
            f"pip install 'netinv_lightning[{extra}]'"
        )
    listed = text.partition("Available options in")[2].partition("Config search path")[0]
    options = [line.strip() for line in listed.splitlines()[1:] if line.strip()]
    if not options:
        group, _, choice = found.partition("/")
        paths = (CONF / group).rglob("*.yaml")
        options = sorted(str(path.relative_to(CONF / group))[:-5] for path in paths)
    known = [option for option in options if "schema" not in option]
    return f"{group}={choice}: there is no such choice; {nearest(choice, known)}"


def _no_equals_sign(text: str) -> str:
    word = _first(r"Error parsing override '([^']*)'\s+missing EQUAL", text)
    if not word:
        return ""
    return (
        f"{word}: is neither KEY=VALUE nor a command (its first word); netinv --help lists "
        "commands, groups and keys"
    )


def _null(text: str) -> str:
    key = _first(r"Error merging override ([\w.]+)=null", text)
    if not key or "is not Optional" not in text:
        return ""
    return f"{key}=null: must have a value; leave it out for the default"


def _interpolation(text: str) -> str:
    problem = _first(
        r"(Interpolation key '.*?' not found|Environment variable '.*?' not found"
        r"|Unsupported interpolation type \S+)",
        text,
    )
    if not problem:
        return ""
    return (
        f"{_full_key(text)}: an interpolation in its value cannot be resolved ({problem}); write a "
        "literal dollar before a brace as \\$"
    )


def _plus_for_known_key(text: str) -> str:
    key = _first(r"Could not append to config. An item is already at '([\w.]+)'", text)
    return f"+{key}: the key exists already; set it without the plus: {key}=VALUE" if key else ""


def _nothing_to_remove(text: str) -> str:
    found = re.search(
        r"Could not delete from config. The value of '([\w.]+)' is (.*?) and not", text
    )
    if found:
        return f"~{found[1]}: its value is {found[2]}; remove it with ~{found[1]}, without a value"
    key = _first(r"Could not delete from config. '([\w.]+)' does not exist", text)
    if not key:
        return ""
    near = nearest(key, _all_keys())
    hint = near if near.startswith("did") else "netinv --help lists all keys"
    return f"~{key}: there is no such key to remove; {hint}"


def _missing_value(text: str) -> str:
    key = _first(r"Missing mandatory value: ([\w.]+)", text)
    return f"{key}: must be given, as {key}=VALUE" if key else ""


def _key_of_garbage(text: str) -> str:
    """Return the message for a wrong key of `garbage`: its keys exist once a choice is made."""
    found = re.search(r"override '?\+{0,2}garbage\.(\w+)(?:\.(\w+))?", text)
    if not found or "could not be converted" in text:
        return ""
    choice, key = found[1], found[2] or ""
    choices = [path.stem for path in (CONF / "garbage").glob("*.yaml")]
    if choice not in choices:
        return (
            f"garbage.{choice}: there is no such choice. A custom choice is a file "
            f"garbage/{choice}.yaml; {nearest(choice, choices)}"
        )
    known = {field.name for field in fields(GarbageConfig)}
    if key and key not in known:
        return f"garbage.{choice}.{key}: there is no such key; {nearest(key, known)}"
    return f"garbage.{choice}.{key}: is a key of garbage={choice}; choose that too"


def _unknown_key(text: str) -> str:
    if not re.search(r"is not in struct|not in '\w+'", text):
        return ""
    key = _first(r"Could not (?:override|append to config)[^']*'\+{0,2}([\w.]+)'", text)
    key = key or _full_key(text)
    group, _, name = key.partition(".")
    if group == "trainer" and name in trainer_keys():
        return (
            f"{key}: is an argument of lightning.Trainer that has no default here; add it with "
            f"a plus: +{key}=VALUE"
        )
    term, _, option = name.partition(".")
    if group == "loss" and option in LOSS_TERMS.get(term, ()):
        return f"{key}: is not set in this objective. Add it with a plus: +{key}=VALUE"
    owners = [
        f"{group}={choice}"
        for choice, keys in _KEYS_OF_CHOICES.get(group, {}).items()
        if name in {field.name for field in fields(keys)}
    ]
    if owners:
        jobs = f", or for the jobs of a benchmark 'application.overrides=[\"{key}=...\"]'"
        more = jobs if group == "application" else ""
        listed = " and ".join(filter(None, [", ".join(owners[:-1]), owners[-1]]))
        return f"{key}: is a key of {listed}; choose that{more}"
    # `_all_keys` contains keys of other applications, which this application does not have.
    known = [other for other in _all_keys() if other != key]
    same_name = [other for other in known if other.rpartition(".")[2] == key.rpartition(".")[2]]
    return f"{key}: there is no such key; {nearest(key, same_name or known)}"


def _wrong_type(text: str) -> str:
    found = re.search(
        r"Value '(.*?)' (?:of type '\w+' )?(?:could not be converted to|is not a valid) ?(\w+)?",
        text,
    )
    if not found:
        return ""
    kinds = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}
    return f"{_full_key(text)}={found[1]}: must be {kinds.get(found[2] or '', f'a {found[2]}')}"


def _not_a_list(text: str) -> str:
    word = _first(r"(?m)^Error merging override (.*)$", text)
    if not word or "is not a ListConfig" not in text:
        return ""
    key, _, value = word.partition("=")
    if value.startswith("["):
        return f"{word}: must be a list of lists. Write '{key}=[{value}]'"
    return f"{word}: must be a list. Write '{key}=[{value}]'"


def _not_a_mapping(text: str) -> str:
    word = _first(r"(?m)^Error merging override (.*)$", text)
    if not word or not re.search(r"to Dict\[|Cannot merge DictConfig with", text):
        return ""
    key = word.partition("=")[0]
    return f"{word}: must be a mapping. Write '{key}={{NAME: VALUE}}'"


def _not_text(text: str) -> str:
    word = _first(r"(?m)^Error merging override (.*)$", text)
    found = _first(r"Cannot convert '(\w+)' to string", text)
    return f"{word}: must be a text, not a {found}" if word and found else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else ""


def _full_key(text: str) -> str:
    return _first(r"full_key: ([\w.]+)", text)


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
        missing = OmegaConf.is_missing(cfg, key) or OmegaConf.is_interpolation(cfg, key)
        value: Any = None if missing else cfg[key]
        if isinstance(value, DictConfig):
            yield from _flat(value, f"{prefix}{key}.")
