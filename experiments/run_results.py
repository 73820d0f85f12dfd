"""Read the files of runs, and compare them bit by bit; times are ignored."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

TIMES = ("second", "cost/", "costs", "memory_mb")
"""Names that contain one of these are times, or costs that depend on the machine's load."""
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
        return _markdown(path.read_text().splitlines())
    return path.read_bytes() if path.suffix in (".safetensors", ".png") else None


def _table(path: Path) -> list[list[str]]:
    """Return the rows, including the head, without times.

    This omits columns of times, rows whose first entry names a time, and rows that contain only
    times. For example, only one of two runs contains the time to train a classifier that both use.
    """
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    kept = _kept(rows[0]) if rows else []
    without = [[row[index] for index in kept if index < len(row)] for row in rows]
    return [
        row
        for row, whole in zip(without, rows, strict=True)
        if not _is_time(whole[0]) and (any(row[1:]) or not any(whole[1:]))
    ]


def _markdown(lines: list[str]) -> list[str]:
    """Return the lines of a page; columns of times are removed from its tables."""
    found: list[str] = []
    kept: list[int] = []
    inside = False
    for line in lines:
        row = line.startswith("|")
        if row:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            kept = kept if inside else _kept(cells)
            line = " | ".join(cells[index] for index in kept if index < len(cells))
        inside = row
        if not _is_time(line):
            found.append(line)
    return found


def _kept(head: list[str]) -> list[int]:
    """Return the indices of the columns that are not times."""
    return [index for index, name in enumerate(head) if not _is_time(name)]


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
    """Yield each place where two results differ in any bit."""
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
    return bool(one == other or (one != one and other != other))  # NaN equals NaN
