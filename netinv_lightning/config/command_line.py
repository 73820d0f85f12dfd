"""Check the words of a command line before Hydra composes the config.

The errors of Hydra's parser contain tokens of its grammar. The messages of this module name the key
instead and show the quoted form.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn
from unittest.mock import patch

from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from netinv_lightning.config.flags import check_flag
from netinv_lightning.config.registration import CONF
from netinv_lightning.errors import InputError, nearest

_FORCE_SWEEP = ("-m", "--multirun")


def check_words(words: Sequence[str], commands: Sequence[str]) -> None:
    """Refuse words that are neither options nor overrides nor one of `commands`.

    Raises:
        InputError: naming the word. If a value needs quotes, the message contains them.
    """
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise InputError(
            f"{message}; netinv --help lists commands, groups and keys, netinv --hydra-help the "
            "options of Hydra"
        )

    parser.error = refuse  # type: ignore[method-assign]
    if {"-h", "--help", "--version"} & set(words):
        return
    arguments = parser.parse_args(list(words))
    sweeping = any(word in _FORCE_SWEEP for word in words)
    for word in arguments.overrides:
        override = parse(word, commands)
        check_override(override)
        if not sweeping and override.is_sweep_override() and not word.startswith("hydra."):
            key, _, value = word.partition("=")
            listed = f"{key}=[{value}]"
            raise InputError(
                f"{word}: has several values. For a sweep add -m; for one value write "
                f"{quoted(key, value)}; for a list write {shlex.quote(listed)}"
            )


def parse(word: str, commands: Sequence[str] = ()) -> Override:
    """Read one override.

    Raises:
        InputError: naming the key.
    """
    key, equals, value = word.partition("=")
    if not key.strip():
        raise InputError(f"{word or repr(word)}: has no key; write KEY=VALUE")
    if not equals and not word.startswith("~"):
        raise InputError(
            f"{word}: is neither KEY=VALUE nor a command (its first word); "
            f"{_suggestion(word, commands)}"
        )
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        form = quoted(key, value)
        if _value_of(shlex.split(form)[0]) != value:
            raise InputError(
                f"{word}: {key!r} is not a key; keys are letters, digits, _, . and /"
            ) from None
        raise InputError(
            f"{word}: the value has characters or brackets that need quotes. Write {form} in a "
            "shell, with the quotes"
        ) from None


def _suggestion(word: str, commands: Sequence[str]) -> str:
    """Return what a word without an equals sign may stand for: a command, a recipe or a choice."""
    meant = {
        **{path.stem: f"application={path.stem}" for path in (CONF / "application").glob("*.yaml")},
        **{path.stem: f"+experiment={path.stem}" for path in (CONF / "experiment").glob("*.yaml")},
        **{command: command for command in commands},
    }
    near = nearest(word, meant)
    if near.startswith("did you mean"):
        name = near.split("'")[1]
        return f"did you mean '{meant[name]}'?"
    return "netinv --help lists commands, groups and keys"


def check_override(override: Override) -> None:
    """Refuse a number for a key that is true or false, or for a group of the config.

    Raises:
        InputError: naming the key.
    """
    check_flag(override)
    group, value = override.key_or_group, override.value()
    if isinstance(value, bool | int | float) and (CONF / group).is_dir() and "." not in group:
        names = [path.stem for path in (CONF / group).glob("*.yaml")]
        raise InputError(f"{group}={value}: there is no such choice; {nearest(str(value), names)}")


def prints_info(words: Sequence[str]) -> bool:
    """Return whether a command line asks for information about Hydra (`--info`)."""
    return any(word == "-i" or word.startswith("--info") for word in words)


@contextmanager
def adapted_hydra() -> Iterator[None]:
    """Context in which Hydra's help leaves out the schema, and a run composes its config once.

    The groups of the schema are no choices. Hydra composes the whole config only to read
    `hydra.mode`, which takes a fifth of the time until a run starts; no file of `conf` sets it.
    """
    list_all, read_mode = Hydra.list_all_config_groups, Hydra.get_mode

    def list_shown(self: Hydra, parent: str = "") -> Sequence[str]:
        return [group for group in list_all(self, parent) if not group.startswith("schema/")]

    def mode(self: Hydra, config_name: str | None, overrides: list[str]) -> Any:
        providers = [path.provider for path in self.config_loader.get_search_path().get_path()]
        own_files = "command-line" in providers or config_name != "config"
        if own_files or any(map(_may_set_mode, overrides)):
            return read_mode(self, config_name=config_name, overrides=overrides)
        return None

    with (
        patch.object(Hydra, "list_all_config_groups", list_shown),
        patch.object(Hydra, "get_mode", mode),
    ):
        yield


def _may_set_mode(word: str) -> bool:
    """Return whether an override sets `hydra.mode`, alone or with all values of `hydra`."""
    key = word.lstrip("+~").partition("=")[0].partition("@")[0]
    return key == "hydra" or key.startswith("hydra.mode")


def quoted(key: str, value: str) -> str:
    """Return the shell word that sets `key` to exactly `value`, quoted for Hydra and the shell."""
    # In Hydra's grammar a backslash is an escape only before a quote.
    escaped = re.sub(
        r'(\\*)("|$)', lambda found: found[1] * 2 + found[2].replace('"', '\\"'), value
    ).replace("${", "\\${")
    return shlex.quote(f'{key}="{escaped}"')


def _value_of(word: str) -> object:
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException:
        return None
    value = override.value()
    return value.replace("\\${", "${") if isinstance(value, str) else value
