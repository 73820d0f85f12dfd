"""Read files from outside: a run directory or a model card may come from another person.

Every such file is opened here. It must be a regular file, since a FIFO or a device blocks its
reader. Where a folder is given, the file must not be a link out of that folder. The size of a file
is limited. YAML aliases are refused and nesting is limited, because they can expand a small file.
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

MAX_BYTES = 16 * 2**20
"""Maximum size of a file that is read as a whole: JSON, Markdown, a table."""
MAX_CONFIG_BYTES = 2**18
"""Maximum size of a YAML file; the config of a run has about 5,000 bytes."""
MAX_DEPTH = 50
"""Maximum levels of nesting in a YAML file; the config of a run has 5."""
MAX_LINE = 2**20
"""Maximum length of a line in a file that is read line by line."""


def open_file(path: Path, within: Path | None = None) -> BinaryIO:
    """Open a regular file for reading.

    Args:
        path: The file.
        within: A folder that must contain the file after its links are followed; None for any.

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
    except RuntimeError as error:  # raised by Python 3.11 for a circle of links
        raise OSError(f"{path}: is a link to itself") from error
    if not real.is_relative_to(folder.resolve()):
        raise InputError(
            f"{path}: is a link to {real}, outside {folder}; links out of a run directory are not "
            "followed"
        )
    return real


def read_text(path: Path, within: Path | None = None, max_bytes: int = MAX_BYTES) -> str:
    """Return the text of a file (UTF-8).

    Raises:
        InputError: as `open_file`, or if the file is not text or has more than `max_bytes`.
        OSError: if it is missing or cannot be read.
    """
    with open_file(path, within) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise _too_large(path, max_bytes)
    return _decode(content, path)


def read_end(path: Path, max_bytes: int, within: Path | None = None) -> tuple[str, int]:
    """Return the end of a file as text, from the start of a line, and the number of bytes before.

    Args:
        path: The file.
        max_bytes: Maximum number of bytes that are returned.
        within: As for `open_file`.

    Raises:
        InputError: as `open_file`, or if the file is not text.
        OSError: if it is missing or cannot be read.
    """
    with open_file(path, within) as file:
        size = os.fstat(file.fileno()).st_size
        before = max(size - max_bytes, 0)
        file.seek(before)
        content = file.read(max_bytes)
    start = content.find(b"\n") + 1 if before else 0
    return _decode(content[start:], path), before + start


def read_lines(
    path: Path, within: Path | None = None, max_bytes: int | None = None
) -> Iterator[str]:
    """Yield the lines of a file (UTF-8) one by one, so that a long file needs little memory.

    Raises:
        InputError: as `open_file`, if a line is longer than `MAX_LINE`, or if the file is not text
            or has more than `max_bytes`.
        OSError: if it is missing or cannot be read.
    """
    with open_file(path, within) as file:
        if max_bytes is not None and os.fstat(file.fileno()).st_size > max_bytes:
            raise _too_large(path, max_bytes)
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        try:
            while line := text.readline(MAX_LINE + 1):
                if len(line) > MAX_LINE:
                    raise InputError(f"{path}: has a line of more than {MAX_LINE:,} characters")
                yield line
        except UnicodeDecodeError as error:
            raise _not_text(path, error) from error


def read_json(path: Path, within: Path | None = None) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: as `read_text`, or if it is not JSON.
        OSError: if it is missing or cannot be read.
    """
    return parse_json(read_text(path, within), str(path))


def read_json_object(path: Path, within: Path | None = None) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one if the file is missing or damaged."""
    try:
        content = read_json(path, within)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


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
    """Refuse YAML text with aliases, whose size multiplies when they are expanded, or deep nesting.

    Raises:
        InputError: naming the reason.
        yaml.YAMLError: if it is not YAML.
    """
    import yaml

    depth = 0
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise InputError(
                f"{where}: has an alias (*{event.anchor}), which a config must not have; write out "
                "the value"
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(
            event, yaml.CollectionEndEvent
        )
        if depth > MAX_DEPTH:
            raise InputError(f"{where}: is nested more than {MAX_DEPTH} levels deep")


def _decode(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_text(path, error) from error


def _not_text(path: Path, error: UnicodeDecodeError) -> InputError:
    return InputError(f"{path}: is not text ({one_line(error)})")


def _too_large(path: Path, max_bytes: int) -> InputError:
    return InputError(f"{path}: has more than {max_bytes:,} bytes, too many for such a file")
