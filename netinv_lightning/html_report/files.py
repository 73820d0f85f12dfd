"""Reading of a directory: damaged files are noted as problems and do not raise an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import yaml

from netinv_lightning.errors import one_line
from netinv_lightning.runs.outside_files import MAX_CONFIG_BYTES, check_yaml, read_end, read_text

Content = TypeVar("Content")
LONGEST_TEXT = 200_000
"""Largest number of characters of a text in a page. The end of a text is shown."""


@dataclass
class Folder:
    """A directory and the problems found in it.

    Attributes:
        path: The directory.
        problems: One line per damaged file: the file and the reason.
    """

    path: Path
    problems: list[str] = field(default_factory=list)

    def note(self, name: str | Path, reason: object) -> None:
        self.problems.append(one_line(f"{self.path / name}: {reason}"))

    def failed(self, name: str | Path, what: str, error: Exception) -> None:
        """Note an error; the file name at the start of its message is removed."""
        self.note(name, f"{what} ({str(error).removeprefix(f'{self.path / name}: ')})")

    def text(self, name: str | Path) -> str | None:
        """Return the text of a file; None if it is missing or unreadable."""
        return self._read(name, partial(read_text, within=self.path))

    def shortened(self, name: str | Path) -> str | None:
        """Return the last `LONGEST_TEXT` characters of a file; None as for `text`."""
        end = self._read(name, partial(read_end, max_bytes=LONGEST_TEXT, within=self.path))
        if end is None:
            return None
        text, before = end
        return f"... the first {before} characters are left out\n{text}" if before else text

    def _read(self, name: str | Path, read: Callable[[Path], Content]) -> Content | None:
        """Return what `read` finds in a file; None if it is missing or unreadable."""
        try:
            return read(self.path / name)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self.failed(name, "cannot be read", error)
            return None

    def json(self, name: str | Path) -> dict[str, Any]:
        """Return a JSON object; empty if the file is missing or damaged."""
        return self._parsed(name, json.loads)

    def yaml(self, name: str | Path) -> dict[str, Any]:
        """Return a YAML mapping; empty if the file is missing or damaged."""
        return self._parsed(name, _load_yaml)

    def _parsed(self, name: str | Path, parse: Callable[[str], Any]) -> dict[str, Any]:
        text = self.text(name)
        if text is None:
            return {}
        try:
            content = parse(text)
            if not isinstance(content, dict):
                raise ValueError("it does not contain a mapping")
        except (ValueError, yaml.YAMLError, RecursionError) as error:
            self.failed(name, "is damaged", error)
            return {}
        return {str(key): value for key, value in content.items()}


def _load_yaml(text: str) -> Any:
    if len(text) > MAX_CONFIG_BYTES:
        raise ValueError(f"it has more than {MAX_CONFIG_BYTES:,} characters")
    check_yaml(text, "YAML")
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def flattened(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted keys and their values as in an override. Null values are left out."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", _override_text(value)


def _override_text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_override_text, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
