"""What a run may end with that is no failure of its own: wrong input (exit status 2, one line), or being told to stop."""

from __future__ import annotations

import argparse
import difflib
import unicodedata
from collections.abc import Iterable
from typing import NoReturn

_CONTROL = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of control characters, lone surrogates and separators of lines."""
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of what follows, so that a terminal shows another text than is there."""


class InputError(ValueError):
    """Says in one line which key is wrong, its value, what is allowed, and what to do."""

    def __str__(self) -> str:
        return printable(super().__str__())


class Preempted(RuntimeError):
    """The run was told to stop (SIGTERM) and can be continued."""


class CommandParser(argparse.ArgumentParser):
    """Reads the arguments of a command; wrong ones are an `InputError`."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}; see {self.prog} --help")


def one_line(message: object) -> str:
    """The message without line breaks, and without characters that would control the terminal."""
    return printable(" ".join(str(message).split()))


def printable(text: str) -> str:
    r"""The text with its control characters shown as `\x1b`, so that text from a file cannot control the terminal; lines stay."""
    if text.isprintable():
        return text
    return "".join(_escaped(character) if _controls(character) else character for character in text)


def _controls(character: str) -> bool:
    return character not in "\n\t" and (
        unicodedata.category(character) in _CONTROL or character in _DIRECTION
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def nearest(word: str, choices: Iterable[str]) -> str:
    """`Did you mean 'cosine'?` for the choice closest to `word`, else the choices themselves."""
    choices = sorted(choices)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"choose from: {', '.join(choices)}" if choices else "there are no choices"
