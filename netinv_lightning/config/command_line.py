"""Check the words of a command line before Hydra composes the config.

The errors of Hydra's parser contain tokens of its grammar. The messages of this module name the key
instead and show the quoted form.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from netinv_lightning.config.flags import check_flag
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
        check_flag(override)
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
        near = nearest(word, commands)
        hint = (
            near
            if near.startswith("did you mean")
            else "netinv --help lists commands, groups and keys"
        )
        raise InputError(f"{word}: is neither KEY=VALUE nor a command; {hint}")
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
