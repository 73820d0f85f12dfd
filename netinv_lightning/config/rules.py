"""Rules for the values of config keys: kinds of rules, and ranges that several keys share.

This module does not import torch. `ranges.py` has the rule of each key of the schema, and the
constructor of a method has those of its keys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from netinv_lightning.config.shapes import MOST_CHANNELS
from netinv_lightning.errors import nearest


class Rule(Protocol):
    def fault(self, value: Any) -> str:
        """Return what is wrong with `value` and what is allowed; empty if it is allowed."""

    def allowed(self) -> str:
        """Return what is allowed, in a few words."""


@dataclass(frozen=True)
class Count:
    """A whole number from `least` to `most`, both included."""

    least: int
    most: int

    def fault(self, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int):
            return "must be a whole number"
        if value < self.least:
            return f"must be {self.least} or more"
        return (
            f"must be {self.most} or less; larger values do not finish or do not fit into memory"
            if value > self.most
            else ""
        )

    def allowed(self) -> str:
        return f"from {self.least:,} to {self.most:,}"


@dataclass(frozen=True)
class Number:
    """A finite number from `low` to `high`; `above` excludes `low`, and `below` excludes `high`."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def fault(self, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return "must be a number"
        if not math.isfinite(value):
            return "must be a finite number"
        if (value > self.low or (value == self.low and not self.above)) and (
            value < self.high or (value == self.high and not self.below)
        ):
            return ""
        return f"must be {self.allowed()}"

    def allowed(self) -> str:
        if self.low == -math.inf:
            return "finite"
        if self.high == math.inf:
            return f"above {self.low:g}" if self.above else f"{self.low:g} or more"
        if self.above:
            most = "below" if self.below else "at most"
            return f"above {self.low:g} and {most} {self.high:g}"
        if self.below:
            return f"at least {self.low:g} and below {self.high:g}"
        return f"from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Flag:
    """true or false."""

    def fault(self, value: Any) -> str:
        return "" if isinstance(value, bool) else f"must be {self.allowed()}"

    def allowed(self) -> str:
        return "true or false"


@dataclass(frozen=True)
class Names:
    """One of some names."""

    names: tuple[str, ...]

    def fault(self, value: Any) -> str:
        return "" if value in self.names else nearest(str(value), self.names)

    def allowed(self) -> str:
        return f"one of {', '.join(self.names)}"


@dataclass(frozen=True)
class FileName:
    """The name of a file, or null."""

    def fault(self, value: Any) -> str:
        return "" if value is None or (isinstance(value, str) and value) else "must be a file"

    def allowed(self) -> str:
        return "a file"


@dataclass(frozen=True)
class AtLeast:
    """The value of another key of the section, or more; in the constructor of a method."""

    key: str


TAG_LENGTH = 64
"""Maximum number of characters of a tag in W&B."""
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Seed:
    """A seed that torch, NumPy and Lightning all accept."""

    def fault(self, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int):
            return "must be a whole number"
        return "" if 0 <= value <= LARGEST_SEED else f"must be {self.allowed()}"

    def allowed(self) -> str:
        return f"from 0 to {LARGEST_SEED}"


@dataclass(frozen=True)
class ListOfNames:
    """A list of names, or null."""

    def fault(self, value: Any) -> str:
        is_list = isinstance(value, Sequence) and not isinstance(value, str)
        if value is None or (is_list and all(isinstance(name, str) for name in value)):
            return ""
        return f"must be {self.allowed()}"

    def allowed(self) -> str:
        return "a list of names, such as [penultimate]"


POSITIVE, NOT_NEGATIVE, SHARE = Number(0, above=True), Number(0), Number(0, 1)
STEPS, EVERY = Count(1, 10_000_000), Count(1, 1_000_000_000)
BATCH = Count(2, 65_536)
"""Images per batch: at least 2, because BatchNorm and the cosine term compare images."""
IMAGES, WIDTH, PIXELS = Count(1, 10_000_000), Count(1, 16_384), Count(1, 4096)
INPUT_SIDE, CHANNELS = Count(1, 16_384), Count(1, MOST_CHANNELS)
JITTER = Count(0, 4096)
LEAST_STUDIED = 100
"""Minimum number of images of a set on which detectors or feature studies are fitted."""

PARAMETRISATION_NAMES = Names(("pixel", "normalised", "fourier", "opponent_fourier", "phase"))
MATRICES = Names(("hot_cross", "diagonal", "outer_product"))
