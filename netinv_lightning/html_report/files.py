"""A directory whose damaged files are noted, not raised: a page shows the rest of them, and says what it could not read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from netinv_lightning.errors import one_line
from netinv_lightning.runs.outside_files import MOST_CONFIG_BYTES, check_yaml, read_end, read_text

LONGEST_TEXT = 200_000  # characters of a text that a page holds; the end of a log tells more than its beginning


@dataclass
class Folder:
    """A directory, and what was found damaged in it so far.

    Attributes:
        path: The directory.
        problems: One line each: the file and the reason.
    """

    path: Path
    problems: list[str] = field(default_factory=list)

    def note(self, name: str | Path, reason: object) -> None:
        self.problems.append(one_line(f"{self.path / name}: {reason}"))

    def failed(self, name: str | Path, what: str, error: Exception) -> None:
        """Notes an error, whose own message may begin with the file."""
        self.note(name, f"{what} ({str(error).removeprefix(f'{self.path / name}: ')})")

    def text(self, name: str | Path) -> str | None:
        """A file's text; None where there is none, or it cannot be read."""
        try:
            return read_text(self.path / name, self.path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self.failed(name, "cannot be read", error)
            return None

    def shortened(self, name: str | Path) -> str | None:
        """A file's text without its beginning where it is longer than a page can hold."""
        try:
            text, before = read_end(self.path / name, LONGEST_TEXT, self.path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self.failed(name, "cannot be read", error)
            return None
        return f"... {before} characters before are left out\n{text}" if before else text

    def json(self, name: str | Path) -> dict[str, Any]:
        """An object of JSON by key; empty where there is none, or it is damaged."""
        return self._parsed(name, json.loads)

    def yaml(self, name: str | Path) -> dict[str, Any]:
        """A mapping of YAML by key; empty where there is none, or it is damaged."""
        return self._parsed(name, _load_yaml)

    def _parsed(self, name: str | Path, parse: Callable[[str], Any]) -> dict[str, Any]:
        text = self.text(name)
        if text is None:
            return {}
        try:
            content = parse(text)
            if not isinstance(content, dict):
                raise ValueError("holds no mapping of keys to values")
        except (ValueError, yaml.YAMLError, RecursionError) as error:
            self.failed(name, "is damaged", error)
            return {}
        return {str(key): value for key, value in content.items()}


def _load_yaml(text: str) -> Any:
    if len(text) > MOST_CONFIG_BYTES:
        raise ValueError(f"it has more than {MOST_CONFIG_BYTES:,} characters")
    check_yaml(text, "YAML")
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def flattened(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each key that holds one value or a list, with dots, and its value as it is typed in an override; null is left out."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", _typed(value)


def _typed(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_typed, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
