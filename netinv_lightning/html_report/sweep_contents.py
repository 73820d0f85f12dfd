"""Contents of the report of several runs: a sweep, a folder of runs, or runs inside a run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from netinv_lightning.errors import InputError
from netinv_lightning.html_report.csv_tables import PageTable, page_table
from netinv_lightning.html_report.files import Folder
from netinv_lightning.html_report.job import Job, state_order
from netinv_lightning.html_report.metric_tables import HEADLINES
from netinv_lightning.html_report.outcome import is_run, read_outcome
from netinv_lightning.html_report.pictures import THUMBNAIL, THUMBNAIL_BYTES
from netinv_lightning.html_report.run_figures import thumbnail
from netinv_lightning.html_report.sweep_comparison import (
    chart_contents,
    linked_table,
    rank,
    ranking_metric,
    runs_table,
    seeds_table,
    set_values,
)
from netinv_lightning.runs.outside_files import check_within
from netinv_lightning.runs.sweep_directory import MANIFEST, read_manifest
from netinv_lightning.runs.tables import Table

MOST_HEADLINES = 4
"""Largest number of metrics in the table of runs."""


@dataclass
class Sweep:
    """Contents of the report of several runs.

    Attributes:
        keys: Config keys whose values differ between the runs.
        ranked_by: Metric by which the runs are sorted, best first; empty if it is unknown.
        spread: Mean and standard deviation over seeds; None without repeated seeds.
        comparison: Data of the chart: keys, metrics, and the values of each finished run.
    """

    path: Path
    command: str
    jobs: list[Job]
    keys: list[str]
    ranked_by: str
    table: PageTable
    spread: PageTable | None
    every_metric: PageTable | None
    failures: PageTable | None
    comparison: dict[str, Any]
    problems: list[str]

    @property
    def states(self) -> list[tuple[str, int]]:
        """Number of runs per state, `done` first."""
        states = sorted((job.outcome.state for job in self.jobs), key=state_order)
        return [(state, len(list(found))) for state, found in groupby(states)]


def is_sweep(path: Path) -> bool:
    return (path / MANIFEST).is_file()


def runs_in(path: Path) -> list[Path]:
    """Return the run directories directly inside a directory, except symbolic links."""
    return sorted(
        child
        for child in path.iterdir()
        if child.is_dir() and not child.is_symlink() and is_run(child)
    )


def read_sweep(path: Path) -> Sweep:
    """Read a sweep (`sweep.json`), or the runs directly inside a directory.

    Raises:
        InputError: if `sweep.json` is damaged.
    """
    folder = Folder(path)
    if not is_sweep(path):
        return _sweep(folder, [_read_job(folder, run, None) for run in runs_in(path)], "")
    manifest = read_manifest(path)
    try:
        overrides = {
            int(number): [str(word) for word in job] for number, job in manifest["jobs"].items()
        }
        words = [str(word) for word in manifest["command"]]
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path / MANIFEST}: is damaged ({error}). Run the sweep again") from None
    jobs = [
        _read_job(folder, path / str(number), given)
        for number, given in overrides.items()
        if _is_inside(folder, str(number))
    ]
    words = [word for word in words if not word.startswith("hydra.sweep.dir=")]
    return _sweep(folder, jobs, shlex.join(["netinv", *words]))


def _is_inside(sweep: Folder, name: str) -> bool:
    """Whether a job's directory lies in the sweep; a link to the outside is noted as a problem."""
    try:
        check_within(sweep.path / name, sweep.path)
    except (InputError, OSError) as error:
        sweep.failed(name, "is left out", error)
        return False
    return True


def _read_job(sweep: Folder, path: Path, overrides: Sequence[str] | None) -> Job:
    """Read one of several runs.

    Args:
        sweep: The folder that collects the problems.
        path: The run directory, which need not exist.
        overrides: Overrides of a sweep's job; None to take them from the run's own command.
    """
    folder = Folder(path)
    outcome = read_outcome(folder)
    if overrides is None:
        words = folder.json("environment.json").get("command")
        overrides = [str(word) for word in words[1:]] if isinstance(words, list) else []
    verdict = str(folder.json("verdict.json").get("verdict") or "")
    picture = thumbnail(folder, THUMBNAIL, THUMBNAIL_BYTES)
    sweep.problems += folder.problems
    return Job(path.name, path, outcome, _values(overrides), verdict, picture)


def _values(overrides: Sequence[str]) -> dict[str, str]:
    """Return the values of a command by key, without `-m` and Hydra's own settings."""
    pairs = (
        word.lstrip("+").partition("=")
        for word in overrides
        if "=" in word and not word.startswith(("-", "hydra"))
    )
    return {key: value for key, _, value in pairs}


def _sweep(folder: Folder, jobs: list[Job], command: str) -> Sweep:
    keys = set_values(jobs)
    metrics = list(dict.fromkeys(name for job in jobs for name in sorted(job.outcome.metrics)))
    headlines = [name for name in HEADLINES if name in metrics]
    ranked_by = ranking_metric(jobs, [*headlines, *metrics])
    jobs = sorted(jobs, key=lambda job: (state_order(job.outcome.state), rank(job, ranked_by)))
    first = [name for name in dict.fromkeys([ranked_by, *headlines]) if name][:MOST_HEADLINES]
    done = [job for job in jobs if job.done]
    failed = [[job.name, job.outcome.state, job.outcome.error] for job in jobs if not job.done]
    every_metric = Table(
        "All metrics", ["run", *metrics], [[job.name, *map(job.number, metrics)] for job in done]
    )
    failures = Table("Runs that are not done", ["run", "state", "error"], failed)
    return Sweep(
        path=folder.path,
        command=command,
        jobs=jobs,
        keys=keys,
        ranked_by=ranked_by,
        table=runs_table(jobs, keys, first),
        spread=seeds_table(jobs, keys, first),
        every_metric=linked_table(every_metric, done),
        failures=page_table(failures) if failed else None,
        comparison=chart_contents(done, keys, ranked_by, metrics),
        problems=folder.problems,
    )
