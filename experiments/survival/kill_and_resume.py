"""Kill runs at random moments, resume them, and compare their files with uninterrupted runs.

    python -m experiments.survival.kill_and_resume                        # every application
    python -m experiments.survival.kill_and_resume --runs distill,audit   # replace their rows
    python -m experiments.survival.kill_and_resume --kills 1              # one kill of each

Each run is killed by SIGKILL at random moments over its whole length (reading the config, training,
checkpoints, evaluation, figures), and resumed after each kill. Its files are compared bit by bit
with those of the uninterrupted run (`experiments/run_results.py`). The first kill of each run is of
a fresh process, as a user starts it. The others are of processes forked from one that has already
imported the libraries.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from experiments.forked import Command
from experiments.jobs import NETINV, read_rows
from experiments.killed_runs import INVERSIONS, RESTARTED, SHORT, SOURCE, TRAINING
from experiments.options import add_runs, add_tables
from experiments.page import markdown, with_tables
from experiments.run_results import differences, result

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("survival.csv")
COLUMNS = ["run", "process", "seconds_after_start", "stood_at", "differences", "code"]
RUNS = TRAINING | {name: [*SHORT, *command] for name, command in INVERSIONS.items()} | RESTARTED
KILLS = dict.fromkeys(TRAINING, 10) | dict.fromkeys(INVERSIONS, 2) | dict.fromkeys(RESTARTED, 3)
"""Number of kills of each run. Variants of `invert` have fewer, because there are ten of them."""


class Run:
    """One run: its directory, and the command that starts or resumes it."""

    def __init__(self, directory: Path, arguments: Sequence[str], source: Path) -> None:
        self.directory, self.log = directory, directory.with_suffix(".log")
        self.arguments = [
            argument.replace("{source}", str(source)).replace("{run}", str(directory))
            for argument in arguments
        ]

    @property
    def done(self) -> bool:
        status = self.directory / "status.json"
        return status.is_file() and json.loads(status.read_text())["state"] == "done"

    def go(self, fresh: bool = False, kill_after: float | None = None) -> bool:
        """Start or resume the run; return whether it was killed before its end.

        Raises:
            RuntimeError: If the run fails; the message ends with the end of its output.
        """
        begun = (self.directory / "config.yaml").is_file()
        command = (
            [f"resume={self.directory}"]
            if begun
            else [*self.arguments, f"hydra.run.dir={self.directory}"]
        )
        self.log.write_text("")
        process = self._fresh(command) if fresh else self._forked(command)
        try:
            status = process.wait(kill_after)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        if status == -9:
            return True
        if status:
            raise RuntimeError(
                f"{self.directory.name}: exit status {status}: "
                f"{self.log.read_text().strip()[-500:]}"
            )
        return False

    def _fresh(self, command: list[str]) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with self.log.open("a") as log:
            return subprocess.Popen(
                [*NETINV, *command],
                cwd=self.directory.parent,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def _forked(self, command: list[str]) -> Command:
        return Command(command, cwd=self.directory.parent, stdout=self.log, stderr=self.log)

    def where(self) -> str:
        """Return how far the run had got when it was killed."""
        if (self.directory / "summary.json").exists():
            return "after the summary"
        kept = sorted(self.directory.rglob("*.ckpt"), key=lambda path: path.stat().st_mtime)
        kept += sorted(self.directory.parent.glob(f"{self.directory.name}_kept/*/training.ckpt"))
        if not kept:
            return (
                "before the first checkpoint"
                if self.directory.exists()
                else "before the run directory"
            )
        state = torch.load(kept[-1], weights_only=True)
        step = state["global_step" if "global_step" in state else "step"]
        return f"checkpoint {kept[-1].stem} of step {step}"


def kill_at_random(
    run: Run, length: float, most: int, moments: random.Random, fresh: bool
) -> Iterator[dict[str, object]]:
    """Kill and resume the run until it ends, at most `most` times, and then let it end."""
    for number in range(most):
        of_fresh = fresh and number == 0
        after = moments.uniform(0, length) + (8.0 if of_fresh else 0.0)  # for the imports
        if not run.go(of_fresh, after):
            return  # the run ended before the kill
        yield {
            "process": "fresh" if of_fresh else "forked",
            "seconds_after_start": round(after, 2),
            "stood_at": run.where(),
        }
        if run.done:
            return
    run.go()


def killed(
    name: str, kills: int, folder: Path, source: Path, moments: random.Random
) -> list[dict[str, object]]:
    """Return the rows of one run: each kill, and the number of differences after it."""
    place = re.sub(r"\W+", "_", name)  # needs no quotes on a command line
    whole = Run(folder / f"{place}_whole", RUNS[name], source)
    begin = time.monotonic()
    whole.go()
    length, rows, tries = time.monotonic() - begin, [], 0
    while len(rows) < kills and tries < 3 * kills:
        tries += 1
        broken = Run(folder / f"{place}_broken{tries}", RUNS[name], source)
        of_this = list(kill_at_random(broken, length, kills - len(rows), moments, fresh=not rows))
        found = list(differences(result(whole.directory), result(broken.directory)))
        if "logger=wandb" in RUNS[name]:
            ids = {json.loads((broken.directory / "status.json").read_text())["wandb_run_id"]}
            ids |= {
                path.name.rpartition("-")[2]
                for path in (broken.directory / "wandb").glob("offline-run-*")
            }
            found += [f"W&B run ids {sorted(ids)}"] if len(ids) > 1 else []
        rows += [{"run": name, **row, "differences": len(found)} for row in of_this]
        print(
            f"{name}: {len(of_this)} kills, {len(found)} differences {found[:3] or ''}", flush=True
        )
    return rows


def write(rows: list[dict[str, object]]) -> None:
    """Replace the rows of the executed runs, keep others, and write the table into README.md."""
    code = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    rows, made = [row | {"code": code} for row in rows], {row["run"] for row in rows}
    if RESULTS.is_file():
        rows += [row for row in read_rows(RESULTS) if row["run"] not in made and row["run"] in RUNS]
    rows.sort(key=lambda row: list(RUNS).index(str(row["run"])))
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    page = RESULTS.with_name("README.md")
    page.write_text(with_tables(page.read_text(), {"kills": table(rows)}))


def table(rows: list[dict[str, object]]) -> str:
    """Return a table with the number of kills and of different results, and the code, per run."""
    lines = []
    for name in RUNS:
        of_run = [row for row in rows if row["run"] == name]
        different = sum(int(str(row["differences"])) > 0 for row in of_run)
        code = ", ".join(sorted({str(row["code"]) for row in of_run}))
        application = f"invert, {name}" if name in INVERSIONS else name
        lines.append(
            [application, str(len(of_run)), str(different), code]
            if of_run
            else [application, "not tried", "", ""]
        )
    return markdown(["run", "kills, each resumed", "different", "code"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_runs(parser, RUNS)
    parser.add_argument(
        "--kills",
        type=int,
        help="kills of each run (default: 2 of each variant of invert, 10 of other applications "
        "that train, 3 of applications that do not train)",
    )
    add_tables(parser, "survival.csv")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments of the kills")
    options = parser.parse_args()
    if options.tables:
        write([])
        return
    moments, rows, failed = random.Random(options.seed), [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        source = Run(folder / "source", SOURCE, folder)
        source.go()
        for name in options.runs:
            try:
                rows += killed(
                    name,
                    KILLS[name] if options.kills is None else options.kills,
                    folder,
                    source.directory,
                    moments,
                )
            except RuntimeError as error:
                failed.append(name)
                print(f"{name}: {error}", flush=True)
            if rows:
                write(rows)
    differing = sum(int(str(row["differences"])) > 0 for row in rows)
    print(
        f"{len(rows)} kills, {len(rows) - differing} resumed without a difference; "
        f"runs that failed: {', '.join(failed) or 'none'}"
    )
    raise SystemExit(bool(differing or failed))


if __name__ == "__main__":
    main()
