"""Check the config of a run directory and the command of a sweep, which anyone may have written.

Both are checked before they are used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netinv_lightning.config.allowed_targets import is_trusted, refusal, trusted_names
from netinv_lightning.config.black_box_keys import black_box_code, command_refusal
from netinv_lightning.config.description_check import (
    LOADING,
    check_literal,
    check_network,
    check_no_target,
)
from netinv_lightning.config.registration import CONF
from netinv_lightning.errors import InputError, one_line

VERIFIERS = "application.verifiers"
NETWORKS = ("classifier.network", "application.student", f"{VERIFIERS}.network")
"""Keys that describe a network. Other keys of a file must not name code."""
PLAIN_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")
"""A choice of a group, which is also the name of a file."""
CHOICES = (
    "application.experiments",
    "application.methods",
    "application.conditionings",
)
NOT_FROM_A_FILE = (
    "default_root_dir",
    "plugins",
    "callbacks",
    "logger",
    "model_registry",
    "num_nodes",
)
"""Keys of `trainer` that name code, another machine, or a place outside the run directory."""
WRITTEN = ("application.save_as", "classifier.kept_in")
"""Keys that name places outside the run directory to which a run writes."""
SAFE_HYDRA = re.compile(
    r"hydra/(launcher|sweeper)|hydra\.launcher\.n_jobs"
    r"|hydra\.sweeper\.(n_trials|n_jobs|direction|params\..*)|hydra\.sweep\.dir"
)
"""Settings of Hydra that a stored command may contain. Others run code or programs."""


def check_run_config(content: Any, where: str, trusted: Sequence[str] = ()) -> None:
    """Refuse a config that contains interpolations, names code, or leaves the run directory.

    Args:
        content: Content of `config.yaml` as plain containers.
        where: The file, for the message.
        trusted: Names of code that the user trusts.

    Raises:
        InputError: naming the key and its value.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"{where}: is not the config of a run (not a mapping of keys to values)")
    trusted = trusted_names(trusted)
    check_literal(content, where)
    for key in NETWORKS:
        described = _at(content, key)
        if not isinstance(described, bool):  # application.student of reconstruct is true or false
            check_network(described, where, key, trusted)
    _check_elsewhere(content, where, trusted)
    for key, name in black_box_code(content):
        if not is_trusted(name, trusted):
            command = key == "classifier.command"
            raise InputError(
                command_refusal(where, _at(content, key)) if command else refusal(where, key, name)
            )
    trainer = content.get("trainer") or {}
    for key in NOT_FROM_A_FILE:
        if isinstance(trainer, Mapping) and trainer.get(key) not in (None, 1):
            raise InputError(
                f"{where}: trainer.{key}={trainer[key]}: is not allowed in a file. Remove the key"
            )
    for key in CHOICES:
        for choice in _at(content, key) or ():
            if not PLAIN_NAME.fullmatch(str(choice)):
                raise InputError(f"{where}: {key}={choice}: is not the name of a choice")
    _check_garbage(content.get("garbage"), where, trusted)
    _check_words(_at(content, "application.overrides"), f"{where}: application.overrides", trusted)


def _check_elsewhere(content: Mapping[Any, Any], where: str, trusted: Sequence[str]) -> None:
    verifiers = _at(content, VERIFIERS)  # names, paths, or keys of classifier
    for entry in verifiers if isinstance(verifiers, (list, tuple)) else [verifiers]:
        rest = dict(entry) if isinstance(entry, Mapping) else {}
        check_network(rest.pop("network", None), where, f"{VERIFIERS}.network", trusted)
        check_no_target(rest, where, VERIFIERS, trusted)
    apart = (*NETWORKS, VERIFIERS)
    for key, value in content.items():
        if isinstance(value, Mapping):
            value = {name: part for name, part in value.items() if f"{key}.{name}" not in apart}
        check_no_target(value, where, str(key), trusted)


def _check_garbage(garbage: Any, where: str, trusted: Sequence[str]) -> None:
    if not isinstance(garbage, Mapping):
        return
    for name, options in garbage.items():
        if not re.fullmatch(r"[\w-]+", str(name)):
            raise InputError(f"{where}: garbage.{name}: is not a name of letters, digits, _ and -")
        if isinstance(options, Mapping):
            _check_words(options.get("inversion"), f"{where}: garbage.{name}.inversion", trusted)


def _check_words(words: Any, where: str, trusted: Sequence[str]) -> None:
    if words:
        check_words(words, where, trusted, hydra=False)


def check_words(words: Any, where: str, trusted: Sequence[str] = (), hydra: bool = True) -> None:
    """Refuse overrides (`key=value`) in a file that name code, network addresses or other files.

    Args:
        words: The list of overrides.
        where: The file, for the message.
        trusted: Names of code that the user trusts.
        hydra: Whether some settings of Hydra are allowed.

    Raises:
        InputError: naming the override.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ChoiceSweep
    from hydra.errors import HydraException

    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise InputError(f"{where}: is not a list of overrides")
    for word in words:
        try:
            override = OverridesParser.create().parse_override(word)
            value = override.value()
        except (HydraException, ValueError) as error:
            raise InputError(f"{where}: {word}: is not KEY=VALUE ({one_line(error)})") from error
        key = override.key_or_group
        place = f"{where}: {word}"
        no_group = "/" in key and not key.startswith("hydra/") and not (CONF / key).is_dir()
        if (
            ".." in key
            or key.startswith("/")
            or no_group
            or (key.startswith("hydra") and not (hydra and SAFE_HYDRA.fullmatch(key)))
        ):
            raise InputError(
                f"{place}: is not allowed in a file"
                f"{'; repeat it on the command line' if hydra else ''}"
            )
        check_literal(word, place)
        _check_value(key, value.list if isinstance(value, ChoiceSweep) else value, place, trusted)


def _check_value(key: str, value: Any, where: str, trusted: Sequence[str]) -> None:
    """Check the value of an override; a mapping key by key, a list item by item."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            if not re.fullmatch(r"[\w-]+", str(name)):
                raise InputError(f"{where}: {name} is not a key")
            _check_value(f"{key}.{name}", part, where, trusted)
    elif isinstance(value, list):
        for part in value:
            _check_value(key, part, where, trusted)
    elif value is None or isinstance(value, (str, int, float)):
        # Ranges and globs are not checked: their values are numbers or existing choices.
        _check_leaf(key, "" if value is None else str(value), where, trusted)


def _check_leaf(key: str, text: str, where: str, trusted: Sequence[str]) -> None:
    name = key.rpartition(".")[2]
    check_literal(text, where, key)
    if name == "_target_":
        parent = key.removesuffix("._target_")
        if parent in NETWORKS:
            check_network({"_target_": text}, where, parent, trusted)
        else:
            check_no_target({"_target_": text}, where, parent, trusted)
    elif name in ("overrides", "inversion") or "_target_" in text:
        _check_words([text], where, trusted)
    if key.startswith(NETWORKS) and name != "_target_":
        loads = LOADING.search(name) or name in ("_args_", "_partial_")
        if (loads and text.lower() not in ("", "false", "null")) or ":" in text or ".." in text:
            raise InputError(
                f"{where}: would load weights or files, which is not allowed in a file"
            )
    if "." not in key and (CONF / key).is_dir() and text and not PLAIN_NAME.fullmatch(text):
        raise InputError(f"{where}: {text} is not the name of a choice")
    of_black_box = key in ("classifier.callable", "classifier.command") and text
    if key == "trusted" or of_black_box or (key.startswith("trainer.") and name in NOT_FROM_A_FILE):
        raise InputError(f"{where}: is not allowed in a file")
    if key in WRITTEN and text:
        check_place(key, text, where)


def check_place(key: str, place: str, where: str) -> None:
    """Refuse an output path from a file, unless it is inside the working directory.

    Raises:
        InputError: naming the key.
    """
    if not Path(place).expanduser().resolve().is_relative_to(Path.cwd().resolve()):
        raise InputError(
            f"{where}: {key}={place}: is outside the working directory, and the run would write to "
            "it. To allow this, repeat the key on the command line"
        )


def _at(content: Mapping[Any, Any], key: str) -> Any:
    value: Any = content
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
