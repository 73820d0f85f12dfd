"""Make two tables: how invalid input is refused, and how runs survive kills.

    python -m experiments.robustness.run                      # both
    python -m experiments.robustness.run --table refusals   # invalid commands, files, environments
    python -m experiments.robustness.run --table kills      # survival/kill_and_resume.py

A refusal is correct if the exit status is 2, standard error has one line, standard output is empty,
nothing was written, and the command took at most 10 seconds of wall-clock time. Each command runs
in a new process in an empty folder.

The time depends on the load of the machine, whereas `cpu_seconds` does not. A refusal that is
correct except for its time is therefore repeated, and `tries` counts its runs. The results are
written to refusals.csv beside this file. A case with a correct row in refusals.csv is not run
again; remove the file to start from the beginning.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from experiments.jobs import NETINV
from experiments.page import markdown, with_tables
from experiments.robustness.cases import Case, all_cases
from experiments.robustness.inputs import damage_runs, make_run, make_weights

HERE = Path(__file__).parent
RESULTS = HERE / "refusals.csv"
MOST_SECONDS = 10.0
WORKERS = 2
TRIES = 3
"""Maximum number of runs of a refusal that is correct except for its time."""
COLUMNS = (
    "group",
    "case",
    "status",
    "lines",
    "written",
    "seconds",
    "cpu_seconds",
    "tries",
    "line",
)
FOREIGN = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "SLURM_",
    "WANDB_",
    "NETINV_",
    "MASTER_",
    "TORCHELASTIC_",
    "HYDRA_",
)
"""Prefixes of environment variables that are removed before each case."""


def refuse(case: Case, inputs: Path) -> dict[str, object]:
    """Run a case, repeat it if it was only slow, and return its row of the table."""
    for tries in range(1, TRIES + 1):
        row = {**_refuse_once(case, inputs), "tries": tries}
        if is_right(row) or not is_right({**row, "seconds": "0"}):
            break
    return row


def _refuse_once(case: Case, inputs: Path) -> dict[str, object]:
    words = [word.replace("{inputs}", str(inputs)) for word in case.words]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)
    } | {name: value.replace("{inputs}", str(inputs)) for name, value in case.environment.items()}
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output,
    ):
        begin = time.monotonic()
        process = subprocess.Popen(
            [*NETINV, *words],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - begin
        written = sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))
        output.seek(0)
        lines = output.read().splitlines()
    return {
        "group": case.group,
        "case": case.name,
        "status": process.returncode,
        "lines": len(lines),
        "written": " ".join(written),
        "seconds": f"{seconds:.1f}",
        "cpu_seconds": f"{usage.ru_utime + usage.ru_stime:.1f}",
        "line": (lines[-1] if lines else "").replace(str(inputs), "INPUTS"),
    }


def is_right(row: dict[str, object]) -> bool:
    """Return whether a row is a refusal with status 2, one line, nothing written, in time."""
    line = str(row["line"])
    is_error = line.startswith("error: ") and "Traceback" not in line
    return (
        (row["status"], row["lines"], row["written"]) == (2, 1, "")
        and is_error
        and float(str(row["seconds"])) <= MOST_SECONDS
    )


def read_rows(path: Path) -> list[dict[str, object]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {**row, "status": int(row["status"]), "lines": int(row["lines"])}
            for row in csv.DictReader(file)
        ]


def write_rows(rows: list[dict[str, object]]) -> None:
    order = {case.name: number for number, case in enumerate(all_cases())}
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: order.get(str(row["case"]), -1)))


def refusals(only: str | None) -> int:
    """Make the table of refusals and return the number of wrong rows."""
    rows = [row for row in read_rows(RESULTS) if is_right(row)] if only is None else []
    done = {row["case"] for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs"
        make_weights(inputs)
        damage_runs(make_run(inputs / "run"), inputs / "damaged")
        cases = [
            case for case in all_cases() if only in (None, case.group) and case.name not in done
        ]
        with ThreadPoolExecutor(WORKERS) as pool:
            for row in pool.map(lambda case: refuse(case, inputs), cases):
                rows.append(row)
                if not is_right(row):
                    print(f"wrong: {row}", flush=True)
                if only is None:
                    write_rows(rows)
    if only is None:
        page = HERE / "README.md"
        page.write_text(with_tables(page.read_text(), {"refusals": table(rows)}))
    print(table(rows))
    wrong = sum(not is_right(row) for row in rows)
    print(
        f"{len(rows) - wrong} of {len(rows)} refused with status 2, one line, nothing written, "
        f"within {MOST_SECONDS:.0f} s"
    )
    return wrong


def table(rows: list[dict[str, object]]) -> str:
    """Return a table with a row per group: cases, correct ones, slowest, and number run again."""
    lines = []
    for group in (*dict.fromkeys(str(row["group"]) for row in rows), "all"):
        of_group = [row for row in rows if group in (row["group"], "all")]
        seconds, cpu_seconds = (
            max(float(str(row[key])) for row in of_group) for key in ("seconds", "cpu_seconds")
        )
        counts = (
            len(of_group),
            sum(is_right(row) for row in of_group),
            sum(str(row["tries"]) != "1" for row in of_group),
        )
        cases, right, again = map(str, counts)
        lines.append([group, cases, right, f"{seconds:.1f}", f"{cpu_seconds:.1f}", again])
    return markdown(["group", "cases", "right", "slowest (s)", "most CPU (s)", "run again"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", choices=("refusals", "kills", "both"), default="both")
    parser.add_argument("--group", help="one group of the refusals, without writing refusals.csv")
    options = parser.parse_args()
    wrong = 0
    if options.table != "kills":
        wrong += refusals(options.group)
    if options.table != "refusals":
        wrong += subprocess.run(
            [sys.executable, HERE.parent / "survival" / "kill_and_resume.py"], check=False
        ).returncode
    raise SystemExit(wrong > 0)


if __name__ == "__main__":
    main()
