"""Files from outside: a run directory or a model card may come from somebody else.

Every such file is opened here. It must be a regular file, since a FIFO or a device blocks its reader; where a folder is given, it must
not be a link out of that folder; its size is bounded, and so is what it expands to (YAML aliases, nesting).
"""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from netinv_lightning.errors import InputError, one_line

MOST_BYTES = 16 * 2**20
"""Bytes of a file that is read as a whole: JSON, Markdown, a table."""
MOST_CONFIG_BYTES = 2**18
"""Bytes of a YAML file; the config of a run has about 5,000."""
MOST_DEPTH = 50
"""Levels of nesting in a YAML file; the config of a run has 5."""
MOST_LINE = 2**20
"""Characters of a line of a file that is read line by line."""
MOST_ENTRIES = 100_000
"""Files and folders of a run directory that are looked at before a run writes to it."""


def open_file(path: Path, within: Path | None = None) -> BinaryIO:
    """Open a regular file for reading.

    Args:
        path: The file.
        within: A folder that the file must lie in once its links are followed; None to follow them anywhere.

    Raises:
        InputError: if the file is a FIFO, a device or a directory, or lies outside `within`.
        OSError: if it is missing or cannot be read.
    """
    real = check_within(path, within) if within is not None else path
    descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputError(f"{path}: is not a regular file; remove it")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        with suppress(OSError):
            os.close(descriptor)
        raise


def check_within(path: Path, folder: Path) -> Path:
    """Return `path` with its links followed.

    Raises:
        InputError: if it then lies outside `folder`.
        OSError: if its links form a circle.
    """
    try:
        real = path.resolve()
    except RuntimeError as error:  # Python 3.11's answer to a circle of links
        raise OSError(f"{path}: is a link to itself") from error
    if not real.is_relative_to(folder.resolve()):
        raise InputError(
            f"{path}: is a link to {real}, outside {folder}; links out of a run directory are not followed"
        )
    return real


def read_text(path: Path, within: Path | None = None, most: int = MOST_BYTES) -> str:
    """Return a file's text (UTF-8).

    Raises:
        InputError: as `open_file`, or if the file is not text or has more than `most` bytes.
        OSError: if it is missing or cannot be read.
    """
    with open_file(path, within) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise InputError(f"{path}: has more than {most:,} bytes, too many for such a file")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not text ({one_line(error)})") from error


def read_end(path: Path, most: int, within: Path | None = None) -> tuple[str, int]:
    """Return at most the last `most` bytes of a file as text, from the start of a line, and how many bytes come before them.

    Raises:
        InputError: as `open_file`, or if the file is not text.
        OSError: if it is missing or cannot be read.
    """
    with open_file(path, within) as file:
        size = os.fstat(file.fileno()).st_size
        before = max(size - most, 0)
        file.seek(before)
        content = file.read(most)
    start = content.find(b"\n") + 1 if before else 0
    try:
        return content[start:].decode("utf-8"), before + start
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not text ({one_line(error)})") from error


def lines(path: Path, within: Path | None = None, most: int | None = None) -> Iterator[str]:
    """Yield a file's lines (UTF-8) one by one, so that a long file takes no memory.

    Raises:
        InputError: if a line is longer than `MOST_LINE`, or the file is not text or has more than `most` bytes.
        OSError: if it is missing or cannot be read.
    """
    with open_file(path, within) as file:
        if most is not None and os.fstat(file.fileno()).st_size > most:
            raise InputError(f"{path}: has more than {most:,} bytes, too many for such a file")
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        try:
            while line := text.readline(MOST_LINE + 1):
                if len(line) > MOST_LINE:
                    raise InputError(f"{path}: has a line of more than {MOST_LINE:,} characters")
                yield line
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: is not text ({one_line(error)})") from error


def read_json(path: Path, within: Path | None = None) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: as `read_text`, or if it is not JSON.
        OSError: if it is missing or cannot be read.
    """
    return parse_json(read_text(path, within), str(path))


def parse_json(text: str, where: str) -> Any:
    """Return the content of JSON text.

    Raises:
        InputError: if it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError(f"{where}: is nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{where}: is not JSON ({one_line(error)})") from error


def check_yaml(text: str, where: str) -> None:
    """Refuse YAML text that expands to more than it holds: aliases, which can multiply without bound, and deep nesting.

    Raises:
        InputError: if it does.
        yaml.YAMLError: if it is not YAML.
    """
    import yaml

    depth = 0
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise InputError(
                f"{where}: has an alias (*{event.anchor}), which a config must not have; write the value out"
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(
            event, yaml.CollectionEndEvent
        )
        if depth > MOST_DEPTH:
            raise InputError(f"{where}: is nested more than {MOST_DEPTH} levels deep")


def write_fresh(path: Path, content: bytes) -> None:
    """Write a new file; whatever has its name, also a link, is removed first and never written through."""
    clear(path)
    descriptor = os.open(
        path,
        os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0),
        0o666,
    )
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def clear(path: Path) -> Path:
    """Remove the file or link that has this name, so that what is written there is a new file; return the name."""
    path.unlink(missing_ok=True)
    return path


def check_writable_content(folder: Path, deep: bool = True) -> None:
    """Refuse a directory that a run is to write to, if it holds a link out of itself, a FIFO or a device.

    W&B links its own logs from outside into its folder `wandb`, where it only ever writes new files.

    Args:
        folder: The directory.
        deep: Whether to look at its folders too.

    Raises:
        InputError: naming the entry.
    """
    root, count = folder.resolve(), 0
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                count += 1
                if count > MOST_ENTRIES:
                    raise InputError(
                        f"{folder}: holds more than {MOST_ENTRIES:,} files, too many for a run directory"
                    )
                path = Path(entry.path)
                if entry.is_symlink():
                    check_within(path, root)
                elif entry.is_dir(follow_symlinks=False):
                    if deep and path != root / "wandb":
                        pending.append(path)
                elif not entry.is_file(follow_symlinks=False):
                    raise InputError(f"{path}: is not a regular file; remove it")
