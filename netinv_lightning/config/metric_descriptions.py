"""What each metric is: its definition, its range, and whether higher or lower values are better.

The table is `metric_descriptions.txt`: subjects (`# ...`), and in each the metrics, as
`name: low to high, better` and the definition. A part of a name in angle brackets, such as
`<class>`, stands for any text. `docs/metrics.md` is made from it. Imports are light.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_suffix(".txt")


@dataclass(frozen=True)
class Description:
    """The meaning of one metric, or of all metrics of one pattern.

    Attributes:
        subject: Heading under which it is listed.
        name: Name of the metric, possibly with parts in angle brackets.
        definition: What is measured, with the unit if it has one.
        low: Smallest possible value.
        high: Largest possible value.
        better: `higher`, `lower`, or empty if neither is better in itself.
    """

    subject: str
    name: str
    definition: str
    low: float
    high: float
    better: str

    @property
    def range(self) -> str:
        """The range of values in words."""
        if math.isinf(self.low):
            return "any number" if math.isinf(self.high) else f"{self.high:g} or less"
        return (
            f"{self.low:g} or more" if math.isinf(self.high) else f"{self.low:g} to {self.high:g}"
        )


@cache
def descriptions() -> tuple[Description, ...]:
    """Return all descriptions, in the order of the table."""
    return tuple(_read())


def _read() -> Iterator[Description]:
    subject = ""
    for block in re.split(r"\n(?=\S)", TABLE.read_text(encoding="utf-8")):
        if block.startswith("# "):
            subject = block[2:].strip()
            continue
        head, *text = block.splitlines()
        name, _, facts = head.partition(": ")
        extent, _, better = facts.partition(", ")
        low, _, high = extent.partition(" to ")
        definition = " ".join(line.strip() for line in text if line.strip())
        yield Description(subject, name, definition, float(low), float(high), better)


@cache
def _patterns() -> list[tuple[re.Pattern[str], Description]]:
    """Return a pattern for each description; those with more fixed text come first."""
    parts = {of: re.split(r"<[^>]+>", of.name) for of in descriptions()}
    by_fixed_text = sorted(parts, key=lambda of: -sum(map(len, parts[of])))
    return [(re.compile(".+".join(map(re.escape, parts[of]))), of) for of in by_fixed_text]


def describe(name: str) -> Description | None:
    """Return the description of a metric by its full name; None if there is none."""
    return next((of for pattern, of in _patterns() if pattern.fullmatch(name)), None)
