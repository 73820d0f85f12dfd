"""The result of a sweep: `sweep.csv` and the printed table, best job first, failures last."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netinv_lightning import metric_names as names
from netinv_lightning.config.rank_by_check import lower_is_better
from netinv_lightning.errors import InputError, one_line, printable
from netinv_lightning.runs.directory_lock import is_held
from netinv_lightning.runs.file_writing import write_atomically
from netinv_lightning.runs.outside_files import read_json_object
from netinv_lightning.runs.run_directory import read_status
from netinv_lightning.runs.sweep_directory import Sweep

ORDER = ("done", "running", "not run", "killed", "refused", "failed")
"""States of a job, in the order of the table."""


def finish_sweep(sweep: Sweep, status: int) -> int:
    """Write and print the table of a sweep, and return the exit status of the command.

    Args:
        sweep: The sweep, however it ended.
        status: Exit status of Hydra; above 2 if a signal ended it.
    """
    if not sweep.jobs:
        return status
    rows = sweep_rows(sweep.path, sweep.jobs, sweep.errors)
    write_sweep_table(sweep.path, rows)
    return status if status > 2 else sweep_status(rows) or status


def sweep_rows(
    path: Path, jobs: Mapping[int, Sequence[str]], errors: Mapping[int, BaseException]
) -> list[dict[str, Any]]:
    """Return one row per job, best first.

    Args:
        path: The directory of the sweep.
        jobs: The overrides of each job, by its number.
        errors: The errors of jobs in this process; newer than the status in their directories.
    """
    swept = _swept_keys(jobs)
    rows = [
        _row(path / str(number), number, overrides, swept=swept, error=errors.get(number))
        for number, overrides in jobs.items()
    ]
    sign = 1 if lower_is_better(_metric_name(rows)) else -1
    return sorted(
        rows,
        key=lambda row: (
            ORDER.index(row["state"]),
            sign * _number(row["best_metric"], sign),
            row["job"],
        ),
    )


def _row(
    job_dir: Path,
    number: int,
    overrides: Sequence[str],
    *,
    swept: Sequence[str],
    error: BaseException | None,
) -> dict[str, Any]:
    status = read_status(job_dir)
    state = _state(status, error, job_dir)
    values = _values(overrides)
    summary, verdict = (
        read_json_object(job_dir / file, job_dir) if state == "done" else {}
        for file in ("summary.json", "verdict.json")
    )
    message = (
        None if state == "done" else one_line(error) if error is not None else status.get("error")
    )
    return (
        {"job": number, "state": state}
        | {key: values.get(key) for key in swept}
        | {"best_metric": status.get("best_metric"), "verdict": verdict.get("verdict")}
        | summary
        | {"seconds": status.get("seconds"), "error": message, "directory": str(job_dir)}
    )


def _state(status: Mapping[str, Any], error: BaseException | None, job_dir: Path) -> str:
    """Return the state of a job, one of `ORDER`."""
    if isinstance(error, InputError) or (error is None and status.get("refused")):
        return "refused"
    state = str(status.get("state") or "not run")
    if state == "running" and not is_held(job_dir):
        return "killed"
    return "failed" if error is not None and state == "not run" else state


def write_sweep_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `sweep.csv` and print the table; the last line is the directory of the sweep."""
    last = ["seconds", "error", "directory"]
    keys = dict.fromkeys(key for row in rows for key in row)
    columns = [key for key in keys if key not in last] + last
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    try:
        write_atomically(path / "sweep.csv", text.getvalue())
    except OSError as error:  # a full disk or a removed directory: the table is still printed
        print(f"sweep.csv could not be written: {one_line(error)}", file=sys.stderr)
    metric = _metric_name(rows)
    shown = columns[: columns.index("best_metric") + 1]
    if any(row["verdict"] for row in rows):
        shown.append("verdict")
    if metric != names.TRANSFER_ACCURACY and names.TRANSFER_ACCURACY in columns:
        shown.append(names.TRANSFER_ACCURACY)
    _print(rows, [*shown, "seconds", "error"], metric)
    print(path, flush=True)


def _metric_name(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of the metric by which the rows are sorted, if all have the same."""
    found = {
        str(name)
        for row in rows
        if (name := read_status(Path(row["directory"])).get("best_metric_name"))
    }
    return found.pop() if len(found) == 1 else "best_metric"


def _print(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], metric: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    done = sum(row["state"] == "done" for row in rows)
    heads = [printable(metric) if key == "best_metric" else key for key in columns]
    first = "lowest" if lower_is_better(metric) else "highest"
    order = "" if metric == "best_metric" else f", {first} {printable(metric)} first"
    table = Table(*heads, title=f"{done} of {len(rows)} jobs done{order}")
    for row in rows:
        style = "" if row["state"] == "done" else "red"
        table.add_row(*(Text(_format(row.get(key)), style=style) for key in columns))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def sweep_status(rows: Sequence[Mapping[str, Any]]) -> int:
    """Return the exit status: 0 if all jobs are done, 2 if the others were refused, else 1."""
    states = {row["state"] for row in rows} - {"done"}
    return 0 if not states else 2 if states == {"refused"} else 1


def _swept_keys(jobs: Mapping[int, Sequence[str]]) -> list[str]:
    """Return the keys whose value differs between jobs."""
    values = [_values(overrides) for overrides in jobs.values()]
    keys = dict.fromkeys(key for job in values for key in job)
    return [key for key in keys if len({job.get(key) for job in values}) > 1]


def _values(overrides: Sequence[str]) -> dict[str, str]:
    pairs = (override.lstrip("+").partition("=") for override in overrides)
    return {key: value for key, _, value in pairs}


def _number(value: Any, sign: int) -> float:
    """Return a number for sorting; infinity with a sign if the value is not a number."""
    if isinstance(value, (int, float)) and value == value:
        return float(value)
    return math.copysign(math.inf, sign)


def _format(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else printable(str(value))
