"""Jobs of an experiment: two at a time, one core each, and none twice.

A command is forked from a process that has the libraries loaded, which would take it twenty seconds. A job whose rows are in the
experiment's results.csv already is not run again; remove the file to start anew.
"""

from __future__ import annotations

import csv
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parent.parent
os.environ["OMP_NUM_THREADS"] = "1"  # torch reads it when it is loaded
FORKED = get_context("forkserver")
FORKED.set_forkserver_preload(["netinv_lightning.run", "netinv_lightning.applications.audit"])
Row = dict[str, Any]


def netinv(*overrides: str) -> Path:
    """Runs the command on one core; gives the run directory.

    Raises:
        RuntimeError: if it fails, with the end of what it told.
    """
    with TemporaryDirectory() as told:
        command = FORKED.Process(target=_command, args=(overrides, told))
        command.start()
        command.join()
        if command.exitcode:
            raise RuntimeError(f"{' '.join(overrides)}: {Path(told, 'stderr').read_text().strip()[-500:]}")
        return Path(Path(told, "stdout").read_text().splitlines()[-1])


def _command(overrides: Sequence[str], told: str) -> None:
    """What a forked process does: the command, its two streams in files of the directory `told`."""
    from netinv_lightning.run import main

    for stream in (sys.stdout, sys.stderr):
        with open(Path(told, stream.name.strip("<>")), "w") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.chdir(ROOT)
    warnings.simplefilter("ignore")
    sys.argv = ["netinv", *overrides]
    main()


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
