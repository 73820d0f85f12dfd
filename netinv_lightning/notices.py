"""Notices: what a run assumes about the user's files and network, each printed once per run."""

from __future__ import annotations

import sys
from functools import cache

from netinv_lightning.errors import one_line
from netinv_lightning.run_dir import first_process


def notice(line: str) -> None:
    """Print one line to the standard error, unless it is empty or was printed since the run started."""
    if line and first_process():
        _print(one_line(line))


def start_notices() -> None:
    """Start a new run, which prints its own notices."""
    _print.cache_clear()


@cache
def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
