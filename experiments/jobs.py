"""Run the jobs of an experiment: two at a time, one core each, and each job only once.

Each job is forked from a server process that has already imported the libraries, which saves about
twenty seconds per job. A job is skipped if results.csv of the experiment has its rows; remove the
file to start again.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from experiments.forked import Context, run_command

ROOT = Path(__file__).parent.parent
NETINV = [sys.executable, "-W", "ignore", "-m", "netinv_lightning.run"]
"""The command `netinv` in a process of its own."""
Row = dict[str, Any]


def netinv(*overrides: str, within: Context = nullcontext) -> Path:
    """Run the command `netinv` on one core and return the run directory.

    Args:
        overrides: Overrides of the config.
        within: Makes the context in which the command runs; it is pickled.

    Raises:
        RuntimeError: If the command fails; the message ends with the last 500 characters of its
            error output.
    """
    done = run_command(overrides, cwd=ROOT, within=within)
    if done.returncode:
        raise RuntimeError(f"{' '.join(overrides)}: {done.stderr.strip()[-500:]}")
    return Path(done.stdout.splitlines()[-1])


def netinv_on_all_cores(*overrides: str) -> Path:
    """Run the command `netinv` in a process of its own and return the run directory."""
    done = subprocess.run(
        [*NETINV, *overrides], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return Path(done.stdout.splitlines()[-1])


def read_rows(results: Path) -> list[Row]:
    """Return the rows of a CSV file, or none if the file does not exist."""
    if not results.exists():
        return []
    with results.open() as file:
        return list(csv.DictReader(file))


def run_missing(
    results: Path,
    keys: Sequence[str],
    jobs: Iterable[tuple[Any, ...]],
    one: Callable[..., list[Row]],
    at_once: int = 2,
) -> list[Row]:
    """Run every job that has no row in `results`, and write its rows there as soon as it ends.

    Args:
        results: The CSV file.
        keys: The columns that identify a job, one for each value of its tuple.
        jobs: The jobs; the values of each are the arguments of `one`.
        one: Runs one job and returns its rows. All rows have the columns `keys`, and the same
            other columns.
        at_once: How many jobs run at a time.

    Returns:
        All rows, including those that were in the file before.
    """
    rows = read_rows(results)
    done = {tuple(str(row[key]) for key in keys) for row in rows}
    with ThreadPoolExecutor(at_once) as pool:
        running = {pool.submit(one, *job): job for job in jobs if tuple(map(str, job)) not in done}
        for future in as_completed(running):
            try:
                rows += future.result()
            except Exception as error:  # the other jobs keep their rows
                print(f"failed: {error}", file=sys.stderr, flush=True)
                continue
            print(*running[future], flush=True)
            with results.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(
                    sorted(rows, key=lambda row: [str(value) for value in row.values()])
                )
    return rows
