"""What came out of a sweep: `sweep.csv` and the printed table, best first, failures last."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netinv_lightning.errors import InputError, one_line, printable
from netinv_lightning.runs.outside_files import read_json
from netinv_lightning.runs.run_directory import write_atomically, written_to

ORDER = ("done", "running", "not run", "killed", "refused", "failed")


def read_status(job_dir: Path) -> dict[str, Any]:
    """`status.json` of a job; empty where it never started."""
    return _read_json(job_dir / "status.json")


def sweep_rows(
    path: Path, jobs: Mapping[int, Sequence[str]], errors: Mapping[int, BaseException]
) -> list[dict[str, Any]]:
    """One row a job, best first.

    Args:
        path: The sweep's directory.
        jobs: Each job's overrides, by number.
        errors: How jobs ended in this process; newer than what their directories tell.
    """
    swept = _swept(jobs)
    rows = []
    for number, overrides in jobs.items():
        job_dir = path / str(number)
        status, summary = read_status(job_dir), _read_json(job_dir / "summary.json")
        error = errors.get(number)
        state = status.get("state") or "not run"
        if isinstance(error, InputError) or (error is None and status.get("refused")):
            state = "refused"
        elif state == "running" and not written_to(job_dir):
            state = "killed"
        elif error is not None and state == "not run":
            state = "failed"
        values = _values(overrides)
        message = (
            None
            if state == "done"
            else one_line(error)
            if error is not None
            else status.get("error")
        )
        rows.append(
            {"job": number, "state": state}
            | {key: values.get(key) for key in swept}
            | {"best_metric": status.get("best_metric")}
            | (summary if state == "done" else {})
            | {"seconds": status.get("seconds"), "error": message, "directory": str(job_dir)}
        )
    return sorted(
        rows, key=lambda row: (ORDER.index(row["state"]), -_number(row["best_metric"]), row["job"])
    )


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes `sweep.csv` and prints the table; the last line is the sweep's directory."""
    ends = ["seconds", "error", "directory"]
    columns = [
        key for key in dict.fromkeys(key for row in rows for key in row) if key not in ends
    ] + ends
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    try:
        write_atomically(path / "sweep.csv", text.getvalue())
    except (
        OSError
    ) as error:  # the disk is full, or the directory gone: what came out is still printed
        print(f"no sweep.csv: {one_line(error)}", file=sys.stderr)

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = [key for key in columns[: columns.index("best_metric") + 1]] + ["seconds", "error"]
    table = Table(
        *shown, title=f"{sum(row['state'] == 'done' for row in rows)} of {len(rows)} jobs done"
    )
    for row in rows:
        table.add_row(
            *(
                Text(_shown(row.get(key)), style="" if row["state"] == "done" else "red")
                for key in shown
            )
        )
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    print(path, flush=True)


def sweep_status(rows: Sequence[Mapping[str, Any]]) -> int:
    """The exit status: 0 all done, 2 the only failures are refused input, else 1."""
    states = {row["state"] for row in rows} - {"done"}
    return 0 if not states else 2 if states == {"refused"} else 1


def _swept(jobs: Mapping[int, Sequence[str]]) -> list[str]:
    """Keys whose value is not the same in all jobs."""
    values = [_values(overrides) for overrides in jobs.values()]
    return [
        key
        for key in dict.fromkeys(key for job in values for key in job)
        if len({job.get(key) for job in values}) > 1
    ]


def _values(overrides: Sequence[str]) -> dict[str, str]:
    pairs = (override.lstrip("+").partition("=") for override in overrides)
    return {key: value for key, _, value in pairs}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and value == value else float("-inf")


def _shown(value: Any) -> str:
    return (
        ""
        if value is None
        else f"{value:.4f}"
        if isinstance(value, float)
        else printable(str(value))
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path, path.parent)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
