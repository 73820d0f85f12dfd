"""The choices of each config group: the files of `conf/`, and what they say and set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from netinv_lightning.config.registration import CONF
from netinv_lightning.manual.docstrings import first_sentence

ADDED = ("experiment", "sweep", "debug")
"""Groups that are not among the defaults: they are added with a plus."""


@dataclass(frozen=True)
class Choice:
    """One choice of a group.

    Attributes:
        group: Such as `loss`.
        name: Such as `natural`, or `zoo/mnist_cnn` for a file in a folder of the group.
        head: The comment at the start of the file.
        values: The keys that the file sets, with their values.
    """

    group: str
    name: str
    head: str
    values: dict[str, Any]

    @property
    def word(self) -> str:
        """The word of a command line that selects it."""
        if self.group == "garbage":
            return f"garbage=[{self.name}]"
        return f"{'+' if self.group in ADDED else ''}{self.group}={self.name}"

    @property
    def line(self) -> str:
        """The first sentence of the head, or the claim of a recipe."""
        claim = re.search(r"(?s)Claim: (.*?)(?=\n\S+:|\Z)", self.head)
        return first_sentence(" ".join(claim[1].split()) if claim else self.head)


@cache
def groups() -> list[str]:
    """Return the names of all groups of this project; those of Hydra are left out."""
    return sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")


@cache
def choices(group: str) -> list[Choice]:
    """Return the choices of a group, sorted by name."""
    folder = CONF / group
    paths = sorted(folder.rglob("*.yaml"), key=lambda path: (len(path.parts), path.name))
    return [_read(group, path.relative_to(folder).as_posix()[:-5], path) for path in paths]


@cache
def default_choice(group: str) -> str:
    """Return the default choice of a group; empty if there is none."""
    defaults = _load((CONF / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    chosen = [entry[group] for entry in defaults if isinstance(entry, dict) and group in entry]
    return str(chosen[0]) if chosen and isinstance(chosen[0], str) else ""


def choices_that_set(key: str) -> Iterator[tuple[Choice, Any]]:
    """Yield the choices that set a key, except recipes and sweeps, and the values."""
    for group in groups():
        if group not in ("experiment", "sweep"):
            for choice in choices(group):
                if key in choice.values:
                    yield choice, choice.values[key]


def _read(group: str, name: str, path: Path) -> Choice:
    text = path.read_text(encoding="utf-8")
    head: list[str] = []
    package = group
    for line in text.splitlines():
        if line.startswith("# @package "):
            package = line.removeprefix("# @package ").replace("_global_", "")
        elif line.startswith("#"):
            head.append(line[1:].removeprefix(" "))
        else:
            break
    content = _load(text) or {}
    content.pop("defaults", None)
    return Choice(group, name, "\n".join(head), dict(_flat(content, package)))


def _load(text: str) -> Any:
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _flat(content: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, dict) and value:
            yield from _flat(value, key)
        else:
            yield key, value
