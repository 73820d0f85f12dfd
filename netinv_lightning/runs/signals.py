"""What a signal, or the death of another process, does to runs and sweeps."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import FrameType
from typing import Any
from unittest.mock import patch

from hydra.core.utils import JobReturn, JobStatus

from netinv_lightning.errors import Preempted

SIGTERM_STATUS = int(128 + signal.SIGTERM)
SIGINT_STATUS = int(128 + signal.SIGINT)
SIGPIPE_STATUS = 128 + 13  # not every system has the signal


PEER_GONE = "another process of the run has died"
PATIENCE = 5.0
"""Seconds that the first process has to notice by itself that another one died."""


class PeerLost(RuntimeError):
    """One of several processes that train one run has died; the run can be resumed."""


def peer_is_gone(error: BaseException) -> bool:
    """Whether an error means that the connection to another process of the run broke."""
    return (
        isinstance(error, RuntimeError) and re.search(BROKEN, str(error), re.IGNORECASE) is not None
    )


BROKEN = r"\b(gloo|nccl)\b.*(closed|reset|refused|aborted|broken pipe|timed out|remote process)"
"""What the libraries say through which processes talk, when one of them does not answer any more."""


@contextmanager
def peers_watched(tell: Callable[[], None]) -> Iterator[None]:
    """Inside, this process ends with exit status 1, after `tell`, when Lightning notices that another process of the run died.

    Lightning itself would kill this one, without a word. A process that waits for the dead one in a collective operation notices first.
    """
    launcher = sys.modules.get("lightning.fabric.strategies.launchers.subprocess_script")
    if launcher is None:
        yield
        return

    def end(self: Any) -> None:
        for process in self._child_processes:
            process.kill()
        time.sleep(PATIENCE)
        tell()
        os._exit(1)

    with patch.object(launcher._ChildProcessObserver, "_terminate_all", end):
        yield


def end_with_parent() -> None:
    """Ends this worker of joblib's when the sweep's own process is gone; else it would work, and then wait, for nobody."""
    name = "end_with_parent"
    if "joblib" not in sys.modules or any(thread.name == name for thread in threading.enumerate()):
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)  # as killed: every file is whole at any moment

    threading.Thread(target=watch, name=name, daemon=True).start()


def run_stopped_by_sigterm() -> AbstractContextManager[None]:
    """Inside, SIGTERM raises Preempted, so that the run says how it ended; in training `Checkpoints` answers it."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Preempted("stopped by SIGTERM")

    return on_sigterm(stop)


def exit_on_sigterm() -> AbstractContextManager[None]:
    """Inside, SIGTERM ends the process as `sys.exit` does, in order: a sweep still writes its table, a page removes its uploads."""
    return on_sigterm(lambda *_: sys.exit(SIGTERM_STATUS))


@contextmanager
def on_sigterm(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Inside, SIGTERM calls `handler`; in another thread than the main one nothing changes."""
    if (
        threading.current_thread() is not threading.main_thread()
    ):  # Python allows signal handlers there only
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def submitit_waits_for_all() -> Iterator[None]:
    """The launcher of submitit gives up at the first job that was killed, while others still run; here it counts as failed."""
    with ExitStack() as stack:
        if "hydra_plugins.hydra_submitit_launcher" in sys.modules:
            import submitit

            results = submitit.Job.results

            def patient(job: Any) -> list[Any]:
                try:
                    return list(results(job))
                except Exception as error:
                    failed = RuntimeError(f"its process was killed ({type(error).__name__})")
                    return [JobReturn(status=JobStatus.FAILED, _return_value=failed)]

            stack.enter_context(patch.object(submitit.Job, "results", patient))
        yield
