"""Errors that are not defects of the code: wrong input (exit status 2) and a stop signal."""

from __future__ import annotations

import argparse
import difflib
import sys
import unicodedata
from collections.abc import Iterable
from typing import NoReturn

_CONTROL = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories of control characters, lone surrogates and line separators."""
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of text, so that a terminal shows it differently."""


class InputError(ValueError):
    """Wrong input. The message is one line: the key, its value, what is allowed, what to do."""

    def __str__(self) -> str:
        return printable(super().__str__())


class Preempted(RuntimeError):
    """The run was stopped by a signal (SIGTERM) and can be resumed."""


class CommandParser(argparse.ArgumentParser):
    """Parser of command arguments that raises `InputError` for wrong ones."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}; see {self.prog} --help")


def exit_status(error: Exception, failure: str = "") -> int:
    """Print an error of a command as one line, and return the exit status.

    Args:
        error: The error.
        failure: What failed, if the input is not wrong.

    Returns:
        2 for wrong input, otherwise 1.
    """
    if isinstance(error, InputError):
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    reason = one_line(f"{type(error).__name__}: {error}")
    print(f"failed: {f'{failure} ({reason})' if failure else reason}", file=sys.stderr)
    return 1


def one_line(message: object) -> str:
    """Return the message without line breaks and without terminal control characters."""
    return printable(" ".join(str(message).split()))


def printable(text: str) -> str:
    r"""Return the text with control characters escaped, such as `\x1b`; line breaks are kept."""
    if text.isprintable():
        return text
    return "".join(_escaped(character) if _controls(character) else character for character in text)


def _controls(character: str) -> bool:
    return character not in "\n\t" and (
        unicodedata.category(character) in _CONTROL or character in _DIRECTION
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def nearest(word: str, choices: Iterable[str], advice: str = "") -> str:
    """Return `did you mean 'cosine'?` for the closest choice, or all choices if none is close.

    Args:
        word: What was given.
        choices: What is allowed.
        advice: What else the user can do, as a sentence without a full stop. It follows the
            choices.
    """
    choices = sorted(choices)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'? {advice}".rstrip()
    known = f"choose from: {', '.join(choices)}" if choices else "there are no choices"
    return f"{known}. {advice}" if advice else known
