"""The state of the page as the query of a link, and back.

A link may come from anybody, so each value is checked before it is used, and a link with an invalid
value restores nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

LONGEST = 4_000
"""Largest number of characters of a query."""


@dataclass(frozen=True)
class Choice:
    """A value that is one of a list."""

    allowed: Sequence[str | int]
    missing: str | None = None

    def read(self, text: Any) -> Any:
        return {str(value): value for value in self.allowed}[text]


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`; an integer if both are integers.

    A value that equals `missing` is left out of a link.
    """

    low: float
    high: float
    missing: str | None = None

    def read(self, text: Any) -> Any:
        value = (
            int(text) if isinstance(self.low, int) and isinstance(self.high, int) else float(text)
        )
        if not self.low <= value <= self.high:
            raise ValueError(text)
        return value


Fields = Mapping[str, Choice | Range]
"""By name of a part of the page, the values that it can have."""


def write_query(fields: Fields, values: Sequence[Any]) -> str:
    """Return the query of a link that restores the values of all parts."""
    texts = dict(zip(fields, map(_text, values), strict=True))
    return urlencode({name: text for name, text in texts.items() if text != fields[name].missing})


def read_query(fields: Fields, query: str) -> list[Any] | None:
    """Return the values in the order of `fields`; None if one is missing or not allowed."""
    if len(query) > LONGEST:
        return None
    given = dict(parse_qsl(query))
    try:
        return [field.read(given.get(name, field.missing)) for name, field in fields.items()]
    except (KeyError, TypeError, ValueError):
        return None


def _text(value: Any) -> str:
    """Return a value as text; an empty number counts as 0, as in the page."""
    if value is None:
        return "0"
    return f"{value:g}" if isinstance(value, float) else str(value)
