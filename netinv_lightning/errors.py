"""What a run may end with that is no failure of its own: wrong input (exit status 2, one line), or being told to stop."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable
from typing import NoReturn


class InputError(ValueError):
    """Says in one line which key is wrong, its value, what is allowed, and what to do."""


class Preempted(RuntimeError):
    """The run was told to stop (SIGTERM) and can be continued."""


class CommandParser(argparse.ArgumentParser):
    """Reads the arguments of a command; wrong ones are an `InputError`."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}; see {self.prog} --help")


def one_line(message: object) -> str:
    return " ".join(str(message).split())


def nearest(word: str, choices: Iterable[str]) -> str:
    """`Did you mean 'cosine'?` for the choice closest to `word`, else the choices themselves."""
    choices = sorted(choices)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"choose from: {', '.join(choices)}" if choices else "there are no choices"
