"""Notices: assumptions about files and networks of the user, each printed once per run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from netinv_lightning.errors import one_line
from netinv_lightning.runs.peers import first_process

_printed: set[str] = set()
_waiting: list[list[str]] = []


def notice(line: str) -> None:
    """Print one line to standard error, unless it is empty or this run has printed it."""
    line = one_line(line)
    if not line or not first_process():
        return
    if _waiting:
        _waiting[-1].append(line)
    elif line not in _printed:
        _printed.add(line)
        print(line, file=sys.stderr, flush=True)


@contextmanager
def notices_of_a_run() -> Iterator[None]:
    """Context of a new run. Its notices are printed after its input was accepted.

    If the input is refused, only the error is printed.
    """
    _waiting.append([])
    accepted = False
    try:
        yield
        accepted = True
    finally:
        lines = _waiting.pop()
        if accepted:
            _printed.clear()
            for line in lines:
                notice(line)
