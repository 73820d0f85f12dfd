"""Measure the CPU seconds of a function in a process of its own, with a limit."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any


def seconds_within(limit: int, function: Callable[..., Any], *arguments: Any) -> float:
    """Return the CPU seconds of a function; infinity if it was ended by the limit."""
    context = get_context("fork")
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


def _run(sending: Connection, limit: int, function: Callable[..., Any], arguments: Any) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    start = time.process_time()
    function(*arguments)
    sending.send(time.process_time() - start)
