"""Call a function in a process of its own, with a limit of CPU seconds."""

from __future__ import annotations

import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from experiments.forked import fork_server


def within(limit: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns; None if it was ended by the limit."""
    context = fork_server()
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sending, limit, function, arguments))
    process.start()
    sending.close()
    try:
        result = receiving.recv()
    except EOFError:  # ended by the limit
        result = None
    process.join()
    return result


def _run(
    sending: Connection, limit: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + limit, int(used) + limit))
    sending.send(function(*arguments))
