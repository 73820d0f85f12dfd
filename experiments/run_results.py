"""What runs leave, read for comparison: everything but times, in any bit."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

TIMES = ("second", "cost/", "costs", "memory_mb")
"""Names with one of these in them are times, or costs that differ with the machine's load."""
OF_THE_COMMAND = {"config.yaml", "status.json", "environment.json", "sweep.json"}
"""Files about the command and its processes, which differ in a resumed run."""


def result(run_dir: Path) -> dict[str, Any]:
    """Return the content of all files of a run except times, by path in the run directory."""
    found = {}
    for path in sorted(run_dir.rglob("*")):
        place = path.relative_to(run_dir)
        named = (
            path.is_file()
            and path.name not in OF_THE_COMMAND
            and not {"wandb", "tensorboard"} & set(place.parts)
        )
        if named and (content := _content(path)) is not None:
            found[str(place)] = content
    return found


def _content(path: Path) -> Any:
    if path.suffix in (".ckpt", ".pt"):
        return _timeless(torch.load(path, map_location="cpu", weights_only=True))
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_text()))
    if path.suffix == ".csv":
        return _table(path)
    if path.suffix == ".md":
        return [line for line in path.read_text().splitlines() if not _is_time(line)]
    return path.read_bytes() if path.suffix in (".safetensors", ".png") else None


def _table(path: Path) -> list[list[str]]:
    """Return the rows with the head, without columns of times and rows whose name is a time."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    kept = [index for index, name in enumerate(rows[0]) if not _is_time(name)] if rows else []
    return [
        [row[index] for index in kept if index < len(row)] for row in rows if not _is_time(row[0])
    ]


def _timeless(content: Any) -> Any:
    if isinstance(content, dict):
        return {
            name: _timeless(value) for name, value in content.items() if not _is_time(str(name))
        }
    return (
        [_timeless(value) for value in content] if isinstance(content, (list, tuple)) else content
    )


def _is_time(name: str) -> bool:
    return any(time in name.lower() for time in TIMES)


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Yield where two results differ, in any bit; nothing if they are the same."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            yield from differences(one.get(key), other.get(key), f"{where}/{key}")
    elif (
        isinstance(one, (list, tuple))
        and isinstance(other, (list, tuple))
        and len(one) == len(other)
    ):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{where}/{index}")
    elif not (
        torch.equal(one, other)
        if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
        else _same(one, other)
    ):
        yield where


def _same(one: Any, other: Any) -> bool:
    return bool(one == other or (one != one and other != other))  # NaN is NaN
