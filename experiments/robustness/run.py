"""What wrong input and kills do to runs: two tables.

    python -m experiments.robustness.run                      # both
    python -m experiments.robustness.run --table refusals     # wrong command lines, files and environments
    python -m experiments.robustness.run --table kills        # experiments/survival/kill_and_resume.py

A refusal is right if the exit status is 2, stderr has one line, stdout none, and nothing was written. Each command runs in a fresh process
in an empty folder. `seconds` are of the wall clock, `cpu_seconds` of the processor, which do not depend on what else the machine does.
Writes refusals.csv beside it; a case whose row there is right is not run again, so remove the file to start anew.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from experiments.robustness.cases import Case, all_cases
from experiments.robustness.inputs import NETINV, damage_runs, make_run, make_weights

HERE = Path(__file__).parent
RESULTS = HERE / "refusals.csv"
MOST_SECONDS = 10.0
WORKERS = 4
COLUMNS = ("group", "case", "status", "lines", "written", "seconds", "cpu_seconds", "line")
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
"""Beginnings of variables that a case starts without."""


def refuse(case: Case, inputs: Path) -> dict[str, object]:
    """Run a case; give its row of the table."""
    words = [word.replace("{inputs}", str(inputs)) for word in case.words]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)
    } | case.environment
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as told,
    ):
        begin = time.monotonic()
        process = subprocess.Popen(
            [*NETINV, *words],
            cwd=folder,
            env=environment,
            stdout=told,
            stderr=told,
            stdin=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - begin
        written = sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))
        told.seek(0)
        lines = told.read().splitlines()
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
    """Whether a row shows a refusal as it has to be, in time."""
    line = str(row["line"])
    told = line.startswith("error: ") and "Traceback" not in line
    return (
        (row["status"], row["lines"], row["written"]) == (2, 1, "")
        and told
        and float(str(row["cpu_seconds"])) <= MOST_SECONDS
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
    """Make the table of refusals; give the number of wrong rows."""
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
    right = Counter(str(row["group"]) for row in rows if is_right(row))
    for group, count in Counter(str(row["group"]) for row in rows).items():
        of_group = [row for row in rows if row["group"] == group]
        slowest = max(float(str(row["cpu_seconds"])) for row in of_group)
        print(f"{group}: {right[group]} of {count} right, at most {slowest:.1f} s of the processor")
    print(
        f"{sum(right.values())} of {len(rows)} refused with status 2, one line, nothing written, in {MOST_SECONDS:.0f} s"
    )
    return len(rows) - sum(right.values())


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
