"""Find the disk that is full when something cannot be written."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MESSAGES = ("no space left on device", "os error 28", "disk quota exceeded")
"""Parts of error messages of libraries that do not raise OSError, such as safetensors."""
TORCH_MESSAGE = "inline_container"
"""Part of every message of torch about a checkpoint that cannot be written."""
FULL_BELOW = 1 << 20
"""Free bytes below which a disk counts as full."""


def full_disk(error: BaseException, places: Mapping[str, Path]) -> str | None:
    """Return a message with the full disk, its free bytes and the file that was being written.

    Args:
        error: The error of the write.
        places: Where the run writes, by the key that sets the place. If the error names no file,
            the place with the least free space is assumed.

    Returns:
        One line, or None if the error has another cause.
    """
    message, number = str(error).lower(), error.errno if isinstance(error, OSError) else None
    free = {key: free_bytes(place) for key, place in places.items()}
    fullest = min(free, key=lambda key: free[key])
    if (
        number not in ERRNOS
        and not any(words in message for words in MESSAGES)
        and not (TORCH_MESSAGE in message and free[fullest] < FULL_BELOW)
    ):
        return None
    named = error.filename if isinstance(error, OSError) else None
    path = Path(os.fsdecode(named)) if isinstance(named, (str, bytes)) else places[fullest]
    what = str(path) if named is not None else f"{fullest}={path}"
    reason = (
        "the disk is full" if number in (None, errno.ENOSPC) else os.strerror(int(number)).lower()
    )
    return f"{reason} ({mount_point(path)} has {free_bytes(path)} bytes free; writing {what})"


def free_bytes(path: Path) -> int:
    """Return the bytes that this user can write on the disk of a path, which need not exist."""
    try:
        return shutil.disk_usage(_existing(path)).free
    except OSError:  # free space unknown: assume that the disk is not full
        return sys.maxsize


def mount_point(path: Path) -> Path:
    """Return where the disk of a path is mounted."""
    folder = _existing(path)
    while not folder.is_mount():
        folder = folder.parent
    return folder


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists()).resolve()
