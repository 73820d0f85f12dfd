"""Time, peak memory and page size of reports: a long run, and sweeps with many runs.

    python -m experiments.bench.report_memory    # writes report_memory.csv

The runs are made up: a run of 10^6 rows of `metrics.csv` with 20 metrics, and sweeps of 10, 100 and
1000 runs with 40 metrics and a picture of 600 x 600 pixels each. Peaks are maximum resident set
sizes.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from experiments.bench.data_memory import PEAK

ROWS, COLUMNS_OF_RUN = (10**4, 10**5, 10**6), 20
RUNS, METRICS = (10, 100, 1000), 40
COLUMNS = ("report", "size", "peak_mb", "seconds", "page_kb")
FILE = Path(__file__).with_name("report_memory.csv")


def make_run(path: Path, seed: int, rows: int) -> None:
    """Write a run directory with a curve and a picture."""
    random = np.random.default_rng(seed)
    (path / "figures").mkdir(parents=True)
    config = f"name: made\nseed: {seed}\napplication: {{name: invert, lr: 0.1}}\n"
    (path / "config.yaml").write_text(config)
    command = {"command": ["netinv", "+experiment=made", f"seed={seed}"]}
    (path / "environment.json").write_text(json.dumps(command))
    summary = {"inversion/accuracy": 0.9} | {
        f"diversity/{number}": float(random.random()) for number in range(METRICS - 1)
    }
    (path / "summary.json").write_text(json.dumps(summary))
    status = {"state": "done", "best_metric": 0.9, "seconds": 61.0, "error": None}
    (path / "status.json").write_text(json.dumps(status))
    noise = random.integers(0, 256, (600, 600, 3), np.uint8)
    Image.fromarray(noise).save(path / "figures" / "grid.png")
    with (path / "metrics.csv").open("w") as file:
        names = [f"loss/{number}" for number in range(COLUMNS_OF_RUN)]
        file.write(",".join(["step", *names]) + "\n")
        for step in range(rows):
            values = (f"{value:.6f}" for value in random.random(COLUMNS_OF_RUN))
            file.write(",".join([str(step), *values]) + "\n")


def measure(directory: Path) -> list[str]:
    """Return peak, seconds and size of the page of `netinv report`."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "netinv_lightning.run", "report", str(directory)]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *command], capture_output=True, text=True, check=True
    )
    status, peak = done.stdout.split()[-2:]
    if status != "0":
        raise RuntimeError(done.stderr[-2000:])
    seconds = time.perf_counter() - start
    return [peak, f"{seconds:.1f}", str((directory / "report.html").stat().st_size >> 10)]


def results() -> Iterator[list[str]]:
    for rows in ROWS:
        with TemporaryDirectory() as folder:
            make_run(Path(folder) / "run", 0, rows)
            yield ["a run, by rows of metrics.csv", str(rows), *measure(Path(folder) / "run")]
    for runs in RUNS:
        with TemporaryDirectory() as folder:
            for number in range(runs):
                make_run(Path(folder) / str(number), number, 20)
            manifest = {
                "cwd": "/",
                "overrides": [],
                "command": ["-m", "+experiment=made", f"seed=range({runs})"],
                "jobs": {number: ["+experiment=made", f"seed={number}"] for number in range(runs)},
            }
            (Path(folder) / "sweep.json").write_text(json.dumps(manifest))
            yield ["a sweep, by runs", str(runs), *measure(Path(folder))]


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    rows = []
    for row in results():
        rows.append(row)
        print(*row, flush=True)
    with FILE.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
