"""Which disk is full, when something cannot be written."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SAID = ("no space left on device", "os error 28", "disk quota exceeded")
"""What libraries say that raise errors of their own, such as safetensors."""
TORCH = "inline_container"
"""In what torch says when a checkpoint cannot be written, for whatever reason."""
LITTLE = 1 << 20
"""Bytes: with fewer, a disk counts as full."""


def full_disk(error: BaseException, places: Mapping[str, Path]) -> str | None:
    """Says which disk is full, with its free bytes and what was to be written there.

    Args:
        error: What was raised.
        places: Where the run writes, by the key that names the place. An error that names no file is told by the place with the
            least room.

    Returns:
        One line, or None if the error means something else.
    """
    said, number = str(error).lower(), error.errno if isinstance(error, OSError) else None
    rooms = {key: free_bytes(place) for key, place in places.items()}
    fullest = min(rooms, key=lambda key: rooms[key])
    if (
        number not in ERRNOS
        and not any(words in said for words in SAID)
        and not (TORCH in said and rooms[fullest] < LITTLE)
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
    """Bytes that are free for this user on the disk of a path, which need not exist."""
    try:
        return shutil.disk_usage(_existing(path)).free
    except OSError:  # a disk that cannot be asked is not known to be full
        return sys.maxsize


def mount_point(path: Path) -> Path:
    """Where the disk of a path is mounted."""
    there = _existing(path)
    while not there.is_mount():
        there = there.parent
    return there


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(there for there in (path, *path.parents) if there.exists()).resolve()
