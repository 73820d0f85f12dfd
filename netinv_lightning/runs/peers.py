"""The processes that train one run together: which of them writes, and what happens if one dies."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

PEER_GONE = "another process of the run has died"
GRACE_SECONDS = 5.0
"""Seconds in which the first process may detect the death of another process by itself."""
BROKEN_CONNECTION = (
    r"\b(gloo|nccl)\b.*(closed|reset|refused|aborted|broken pipe|timed out|remote process)"
)
"""Errors of the communication libraries if another process no longer answers."""


class PeerLost(RuntimeError):
    """One of the processes that train a run has died; the run can be resumed."""


def first_process() -> bool:
    """Return whether this process is the one that writes files.

    Lightning and SLURM set the rank of all other processes.
    """
    ranks = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return next((rank for rank in ranks if rank is not None), "0") == "0"


def peer_is_gone(error: BaseException) -> bool:
    """Return whether an error means that the connection to another process broke."""
    return (
        isinstance(error, RuntimeError)
        and re.search(BROKEN_CONNECTION, str(error), re.IGNORECASE) is not None
    )


@contextmanager
def watch_peers(report: Callable[[], None]) -> Iterator[None]:
    """Context in which the death of another process ends this one with exit status 1.

    Lightning alone would kill this process without a message. A process that waits for the dead
    process in a collective operation detects the death itself; `GRACE_SECONDS` leave time for it.

    Args:
        report: Called before the end, in a thread of Lightning.
    """
    launcher = sys.modules.get("lightning.fabric.strategies.launchers.subprocess_script")
    if launcher is None:
        yield
        return

    def end(self: Any) -> None:
        for process in self._child_processes:
            process.kill()
        time.sleep(GRACE_SECONDS)
        report()
        os._exit(1)

    with patch.object(launcher._ChildProcessObserver, "_terminate_all", end):
        yield
