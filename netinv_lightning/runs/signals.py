"""Handle signals, and the end of the sweep's process, in runs and sweeps."""

from __future__ import annotations

import os
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


def end_with_parent() -> None:
    """End this worker of joblib when the process of the sweep is gone.

    Otherwise the worker would finish its job, and then wait for further jobs forever.
    """
    name = "end_with_parent"
    if "joblib" not in sys.modules or any(thread.name == name for thread in threading.enumerate()):
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)  # safe, because every file is complete at any moment

    threading.Thread(target=watch, name=name, daemon=True).start()


def run_stopped_by_sigterm() -> AbstractContextManager[None]:
    """Context in which SIGTERM raises `Preempted`, so that the run records how it ended.

    In training, `Checkpoints` handles the signal instead.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Preempted("stopped by SIGTERM")

    return on_sigterm(stop)


def exit_on_sigterm() -> AbstractContextManager[None]:
    """Context in which SIGTERM ends the process in an orderly way, like `sys.exit`.

    A sweep still writes its table, and the explorer removes its uploads.
    """
    return on_sigterm(lambda *_: sys.exit(SIGTERM_STATUS))


@contextmanager
def on_sigterm(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Context in which SIGTERM calls `handler`.

    Python allows signal handlers in the main thread only. In other threads, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def submitit_waits_for_all() -> Iterator[None]:
    """Context in which a killed job of submitit counts as failed.

    Its launcher would otherwise stop at the first such job while others still run.
    """
    with ExitStack() as stack:
        if "hydra_plugins.hydra_submitit_launcher" in sys.modules:
            import submitit

            results = submitit.Job.results

            def results_or_failure(job: Any) -> list[Any]:
                try:
                    return list(results(job))
                except Exception as error:
                    failed = RuntimeError(f"its process was killed ({type(error).__name__})")
                    return [JobReturn(status=JobStatus.FAILED, _return_value=failed)]

            stack.enter_context(patch.object(submitit.Job, "results", results_or_failure))
        yield
