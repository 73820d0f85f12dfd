"""Jobs of an experiment: two at a time, one core each, and none twice.

A job whose rows are in the experiment's results.csv already is not run again; remove the file to start anew.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
Row = dict[str, Any]


def netinv(*overrides: str) -> Path:
    """Runs the command on one core; gives the run directory.

    Raises:
        RuntimeError: if it fails, with the end of what it told.
    """
    command = [sys.executable, "-W", "ignore", "-m", "netinv_lightning.run", *overrides]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(overrides)}: {done.stderr.strip()[-500:]}")
    return Path(done.stdout.splitlines()[-1])


def read_rows(results: Path) -> list[Row]:
    if not results.exists():
        return []
    with results.open() as file:
        return list(csv.DictReader(file))


def run_missing(results: Path, keys: Sequence[str], jobs: Iterable[tuple[Any, ...]], one: Callable[..., list[Row]]) -> list[Row]:
    """Runs every job that `results` has no row of, and writes its rows there at once.

    Args:
        results: The CSV file.
        keys: Columns that name a job, one for each value of its tuple.
        jobs: The jobs; each is handed to `one` value by value.
        one: Runs a job; gives its rows, which hold `keys` and all have the same columns.

    Returns:
        All rows, also those of before.
    """
    rows = read_rows(results)
    done = {tuple(str(row[key]) for key in keys) for row in rows}
    with ThreadPoolExecutor(2) as pool:
        running = {pool.submit(one, *job): job for job in jobs if tuple(map(str, job)) not in done}
        for future in as_completed(running):
            try:
                rows += future.result()
            except RuntimeError as error:
                print(f"failed: {error}", file=sys.stderr, flush=True)
                continue
            print(*running[future], flush=True)
            with results.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(sorted(rows, key=lambda row: [str(value) for value in row.values()]))
    return rows
