"""Write files atomically, and never through a link that leaves the directory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from netinv_lightning.errors import InputError
from netinv_lightning.runs.outside_files import check_within

MAX_ENTRIES = 100_000
"""Maximum number of files and folders in a run directory."""


def write_atomically(path: Path, text: str) -> None:
    """Write a text file (UTF-8) so that a reader sees either the old file or the new one."""
    with replacing(path) as partial:
        _write_new(partial, text.encode())


def write_json(path: Path, content: Any, sort_keys: bool = False) -> None:
    """Write a JSON file as `write_atomically` does."""
    write_atomically(path, json.dumps(content, indent=2, sort_keys=sort_keys) + "\n")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file that replaces `path` at the end of the context.

    Readers of `path` see either the old file or the new one; after an error the old one is
    unchanged. Other names of the old file (hard links) keep its content.
    """
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)  # a link of that name must not be followed
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


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
    root = folder.resolve()
    for entry in _entries(root, deep):
        path = Path(entry.path)
        if entry.is_symlink():
            check_within(path, root)
        elif not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
            raise InputError(f"{path}: is not a regular file; remove it")


def separate_hard_links(folder: Path, deep: bool = True) -> None:
    """Replace each hard link in a directory by a copy, so that writing to it changes no other file.

    A backup of hard links (`cp -al`) thus keeps its content. Lock files are empty, and stay.

    Args:
        folder: The directory.
        deep: Whether to search its folders too.
    """
    for entry in _entries(folder.resolve(), deep):
        if (
            entry.is_file(follow_symlinks=False)
            and entry.stat(follow_symlinks=False).st_nlink > 1
            and not entry.name.endswith(".lock")
        ):
            with replacing(Path(entry.path)) as copy:
                shutil.copy2(entry.path, copy)


def _entries(root: Path, deep: bool) -> Iterator[os.DirEntry[str]]:
    """Yield the content of a directory, also of its folders if `deep`, without that of `wandb`.

    Raises:
        InputError: if there are more than `MAX_ENTRIES`.
    """
    count, pending = 0, [root]
    while pending:
        with os.scandir(pending.pop()) as scanned:
            entries = list(islice(scanned, MAX_ENTRIES + 1 - count))
        count += len(entries)
        if count > MAX_ENTRIES:
            raise InputError(
                f"{root}: contains more than {MAX_ENTRIES:,} files, too many for a run directory; "
                "choose another directory"
            )
        for entry in entries:
            yield entry
            path = Path(entry.path)
            if deep and entry.is_dir(follow_symlinks=False) and path != root / "wandb":
                pending.append(path)
