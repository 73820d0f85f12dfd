"""What a sweep leaves in its directory, for comparison."""

from __future__ import annotations

import csv
from pathlib import Path


def read_table(sweep: Path) -> dict[int, dict[str, str]]:
    """The rows of `sweep.csv` in their order, by the number of the job."""
    with (sweep / "sweep.csv").open() as file:
        return {int(row["job"]): row for row in csv.DictReader(file)}


def states(sweep: Path) -> list[str]:
    """The state of each job, by number."""
    return [row["state"] for _, row in sorted(read_table(sweep).items())]


def modification_times(folder: Path) -> dict[Path, int]:
    """When each file and folder was last written, in nanoseconds."""
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
