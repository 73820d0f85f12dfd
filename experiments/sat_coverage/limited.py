"""Run a function in a process of its own, with a limit of CPU seconds."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any


def within(seconds: int, function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Return the result of a function and its CPU seconds; (None, infinity) at the limit."""
    context = get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sending, seconds, function, arguments))
    process.start()
    sending.close()
    try:
        result: tuple[Any, float] = receiving.recv()
    except EOFError:  # ended by the limit
        result = None, float("inf")
    process.join()
    return result


def _run(sending: Connection, seconds: int, function: Callable[..., Any], arguments: Any) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    start = time.process_time()
    result = function(*arguments)
    sending.send((result, time.process_time() - start))
