"""Call a function in a process of its own, with a limit of CPU seconds."""

from __future__ import annotations

import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from experiments.forked import fork_server


def within(limit: int, function: Callable[..., float], *arguments: Any) -> float:
    """Return the seconds that a function measures; infinity if it took longer than the limit."""
    context = fork_server()
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sending, limit, function, arguments))
    process.start()
    sending.close()
    try:
        seconds: float = receiving.recv()
    except EOFError:  # ended by the limit
        seconds = float("inf")
    process.join()
    return seconds


def _run(
    sending: Connection, limit: int, function: Callable[..., float], arguments: tuple[Any, ...]
) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + limit, int(used) + limit))
    sending.send(function(*arguments))
