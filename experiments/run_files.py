"""Read numbers from the run directory of a job, and copy its figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from experiments.jobs import Row


def read_summary(run_dir: Path) -> dict[str, float]:
    """Return the numbers of a run by their names."""
    summary: dict[str, float] = json.loads((run_dir / "summary.json").read_text())
    return summary


def number_rows(numbers: Mapping[str, float], **job: str | int) -> list[Row]:
    """Return one row of results.csv per number: the columns of the job, then name and value."""
    return [{**job, "number": name, "value": f"{value:.4f}"} for name, value in numbers.items()]


def copy_figure(run_dir: Path, figure: str, path: Path, divisor: int = 2) -> None:
    """Save a copy of a figure of a run with its sides divided by `divisor`."""
    with Image.open(run_dir / "figures" / f"{figure}.png") as image:
        image.convert("RGB").reduce(divisor).save(path, optimize=True)
