"""Write files atomically, and never through a link that leaves the directory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from netinv_lightning.errors import InputError
from netinv_lightning.runs.outside_files import check_within

MAX_ENTRIES = 100_000
"""Maximum number of files and folders in a run directory."""


def write_atomically(path: Path, text: str) -> None:
    """Write a text file (UTF-8) so that a reader sees either the old file or the new one."""
    temporary = path.with_name(path.name + ".partial")
    _write_new(temporary, text.encode())
    os.replace(temporary, path)


def write_json(path: Path, content: Any, sort_keys: bool = False) -> None:
    """Write a JSON file as `write_atomically` does."""
    write_atomically(path, json.dumps(content, indent=2, sort_keys=sort_keys) + "\n")


def _write_new(path: Path, content: bytes) -> None:
    """Write a new file after removing a file or link of that name; never follow a link."""
    path.unlink(missing_ok=True)
    descriptor = os.open(
        path,
        os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0),
        0o666,
    )
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def check_writable_content(folder: Path, deep: bool = True) -> None:
    """Refuse an output directory that contains a link to outside, a FIFO or a device.

    The folder `wandb` is not checked: it contains links to logs of W&B outside the directory, and
    W&B only writes new files there.

    Args:
        folder: The directory.
        deep: Whether to check its folders too.

    Raises:
        InputError: naming the entry.
    """
    root, count = folder.resolve(), 0
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                count += 1
                if count > MAX_ENTRIES:
                    raise InputError(
                        f"{folder}: contains more than {MAX_ENTRIES:,} files, too many for a run "
                        "directory; choose another directory"
                    )
                path = Path(entry.path)
                if entry.is_symlink():
                    check_within(path, root)
                elif entry.is_dir(follow_symlinks=False):
                    if deep and path != root / "wandb":
                        pending.append(path)
                elif not entry.is_file(follow_symlinks=False):
                    raise InputError(f"{path}: is not a regular file; remove it")
