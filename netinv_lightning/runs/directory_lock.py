"""The lock of a run directory: one process at a time writes to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from netinv_lightning.errors import InputError
from netinv_lightning.runs.outside_files import open_file

LOCK = ".lock"


@contextmanager
def hold_directory(path: Path) -> Iterator[None]:
    """Context in which this process locks a directory, which is created if it is missing.

    The operating system releases the lock when the process ends for any reason.

    Raises:
        InputError: if another process holds it.
    """
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"{path}: another process is writing its run there; wait until it ends, or choose "
            "another directory"
        ) from error
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):
            (path / LOCK).unlink()


def is_held(path: Path) -> bool:
    """Return whether a process still writes to a run directory."""
    try:
        open_file(path / LOCK, path).close()  # refuses a link to somebody else's file
        with FileLock(path / LOCK, timeout=0):
            return False
    except (FileNotFoundError, InputError):
        return False
    except (Timeout, OSError):
        return True
