"""What several runs hold together, as a page shows it: a sweep, a folder of runs, or the runs inside a benchmark's."""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from netinv_lightning.errors import InputError
from netinv_lightning.html_report.csv_tables import CellShown, PageTable, cell, page_table
from netinv_lightning.html_report.files import Folder, flattened
from netinv_lightning.html_report.pictures import THUMBNAIL, THUMBNAIL_BYTES, Picture
from netinv_lightning.html_report.run_contents import (
    HEADLINES,
    Outcome,
    is_run,
    number,
    read_outcome,
)
from netinv_lightning.html_report.run_figures import thumbnail
from netinv_lightning.runs.outside_files import check_within
from netinv_lightning.runs.sweep import MANIFEST, read_manifest
from netinv_lightning.runs.sweep_table import ORDER
from netinv_lightning.runs.tables import Cell, Table

PAGE = "report.html"
SEED = "seed"
MOST_HEADLINES = 5
_NOT_COMPARED = ("hydra", "output", "sweep_output", "resume")
_PLACES = ("name", "data.root", *_NOT_COMPARED)


@dataclass
class Job:
    """One of several runs.

    Attributes:
        name: Of its directory; a job's number in a sweep.
        values: By key, as text, of the keys that its command named.
        verdict: Its name; empty where there is none.
        picture: A small one of its images; None where it has none.
    """

    name: str
    path: Path
    outcome: Outcome
    values: dict[str, str]
    verdict: str
    picture: Picture | None

    @property
    def done(self) -> bool:
        return self.outcome.state == "done"

    @property
    def page(self) -> Path | None:
        """Its own report, where there is one."""
        return self.path / PAGE if (self.path / PAGE).is_file() else None

    def number(self, metric: str) -> float | None:
        return number(self.outcome.metrics.get(metric))


@dataclass
class Sweep:
    """All that a page shows of several runs.

    Attributes:
        keys: Whose values differ between the runs.
        ranked_by: The metric by which the runs are ordered, best first; empty where none is known.
        spread: Mean and spread over the seeds; None where no two runs differ in their seed alone.
        comparison: For the chart: names of keys and metrics, and each done run's values in their order.
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
        """How many runs ended in which way, the good ones first."""
        states = sorted((job.outcome.state for job in self.jobs), key=_order)
        return [(state, len(list(found))) for state, found in groupby(states)]


def is_sweep(path: Path) -> bool:
    return (path / MANIFEST).is_file()


def runs_in(path: Path) -> list[Path]:
    """The runs right below a directory; a link, as `runs/latest`, is none of its own."""
    return sorted(
        child
        for child in path.iterdir()
        if child.is_dir() and not child.is_symlink() and is_run(child)
    )


def read_sweep(path: Path) -> Sweep:
    """Reads a sweep (`sweep.json`), or the runs right below a directory.

    Raises:
        InputError: if there is a `sweep.json` and it is damaged.
    """
    folder = Folder(path)
    if is_sweep(path):
        manifest = read_manifest(path)
        try:
            overrides = {
                int(number): [str(word) for word in job] for number, job in manifest["jobs"].items()
            }
            words = [
                str(word)
                for word in manifest["command"]
                if not str(word).startswith("hydra.sweep.dir=")
            ]
        except (AttributeError, TypeError, ValueError) as error:
            raise InputError(
                f"{path / MANIFEST}: is damaged ({error}); start the sweep anew"
            ) from None
        jobs = [
            _read_job(folder, path / str(number), given)
            for number, given in overrides.items()
            if _is_own(folder, str(number))
        ]
        command = shlex.join(["netinv", *words])
    else:
        jobs, command = [_read_job(folder, run, None) for run in runs_in(path)], ""
    return _compared(folder, jobs, command)


def _is_own(sweep: Folder, name: str) -> bool:
    """Whether a job's directory lies in the sweep; a link out of it is noted, and not followed."""
    try:
        check_within(sweep.path / name, sweep.path)
    except (InputError, OSError) as error:
        sweep.failed(name, "is left out", error)
        return False
    return True


def _read_job(sweep: Folder, path: Path, overrides: Sequence[str] | None) -> Job:
    """One of several runs.

    Args:
        sweep: Where problems are noted.
        path: Of the run; need not exist.
        overrides: Of a sweep's job; by default what the run's own command said.
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


def _compared(folder: Folder, jobs: list[Job], command: str) -> Sweep:
    keys = _varied(jobs)
    metrics = list(dict.fromkeys(name for job in jobs for name in sorted(job.outcome.metrics)))
    ranked_by = _ranked_by(jobs, metrics)
    jobs = sorted(jobs, key=lambda job: (_order(job.outcome.state), -_best(job)))
    first = [name for name in dict.fromkeys([ranked_by, *HEADLINES]) if name in metrics][
        :MOST_HEADLINES
    ]
    failed = [[job.name, job.outcome.state, job.outcome.error] for job in jobs if not job.done]
    done = [job for job in jobs if job.done]
    return Sweep(
        path=folder.path,
        command=command,
        jobs=jobs,
        keys=keys,
        ranked_by=ranked_by,
        table=_table(jobs, keys, first),
        spread=_spread(jobs, keys, first),
        every_metric=_linked(
            Table(
                "Every metric",
                ["run", *metrics],
                [[job.name, *map(job.number, metrics)] for job in done],
            ),
            done,
        ),
        failures=page_table(Table("Not done", ["run", "state", "why"], failed)) if failed else None,
        comparison={
            "keys": keys,
            "metrics": [ranked_by, *(name for name in metrics if name != ranked_by)]
            if ranked_by
            else metrics,
            "runs": [
                {
                    "name": job.name,
                    "keys": job.values,
                    "metrics": {m: v for m in metrics if (v := job.number(m)) is not None},
                }
                for job in done
            ],
        },
        problems=folder.problems,
    )


def _table(jobs: Sequence[Job], keys: Sequence[str], metrics: Sequence[str]) -> PageTable:
    verdicts = any(job.verdict for job in jobs)
    columns = [
        "run",
        "state",
        *metrics[:1],
        *keys,
        *metrics[1:],
        *(["verdict"] if verdicts else []),
        "seconds",
    ]
    rows: list[list[Cell]] = [
        [
            job.name,
            job.outcome.state,
            *map(job.number, metrics[:1]),
            *map(job.values.get, keys),
            *map(job.number, metrics[1:]),
            *([job.verdict] if verdicts else []),
            job.outcome.seconds,
        ]
        for job in jobs
    ]
    return _linked(Table("Runs", columns, rows), jobs)


def _linked(table: Table, jobs: Sequence[Job]) -> PageTable:
    """The first cell of a row leads to the run's own report, where there is one."""
    shown = page_table(table)
    return replace(
        shown,
        rows=[
            [replace(row[0], link=job.page), *row[1:]]
            for row, job in zip(shown.rows, jobs, strict=True)
        ],
    )


def _spread(jobs: Sequence[Job], keys: Sequence[str], metrics: Sequence[str]) -> PageTable | None:
    """Mean ± standard deviation of the runs that differ in their seed alone, best first."""
    keys = [key for key in keys if key != SEED]
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.values.get(key, "") for key in keys), []).append(job)
    if all(len(group) < 2 for group in groups.values()):
        return None
    rows = [
        [cell(value) for value in values]
        + [cell(f"{sum(job.done for job in group)} of {len(group)}")]
        + [
            _mean_and_spread(
                [value for job in group if job.done and (value := job.number(name)) is not None]
            )
            for name in metrics
        ]
        for values, group in groups.items()
    ]
    if metrics:
        rows.sort(key=lambda row: float(row[len(keys) + 1].full or "-inf"), reverse=True)
    notes = [
        "mean ± standard deviation (n - 1) of the runs that are done and agree in these keys, whatever their seed"
    ]
    return PageTable("Mean and spread over seeds", [*keys, "done", *metrics], rows, notes)


def _mean_and_spread(values: Sequence[float]) -> CellShown:
    """Sorted by the mean."""
    if not values:
        return cell(None)
    mean = cell(statistics.fmean(values))
    return (
        replace(mean, text=f"{mean.text} ± {cell(statistics.stdev(values)).text}")
        if len(values) > 1
        else mean
    )


def _varied(jobs: Sequence[Job]) -> list[str]:
    """Keys whose values differ between runs: of those that the commands named, else of those that all configs have.

    A key that one run's command did not name takes its value from that run's config.
    """
    flat = [dict(flattened(job.outcome.config)) for job in jobs]
    named = [
        key
        for key in dict.fromkeys(key for job in jobs for key in job.values)
        if key not in _NOT_COMPARED
    ]
    shared = (
        [key for key in flat[0] if key not in _PLACES and all(key in config for config in flat)]
        if flat
        else []
    )
    for keys in (named, shared):
        for job, config in zip(jobs, flat, strict=True):
            job.values = {
                key: value
                for key in keys
                if (value := job.values.get(key, config.get(key))) is not None
            }
        varied = [key for key in keys if len({job.values.get(key) for job in jobs}) > 1]
        if varied:
            return varied
    return []


def _values(overrides: Sequence[str]) -> dict[str, str]:
    """Values by key of a command's words; `-m` and Hydra's own settings are not compared."""
    pairs = (
        word.lstrip("+").partition("=")
        for word in overrides
        if "=" in word and not word.startswith(("-", "hydra"))
    )
    return {key: value for key, _, value in pairs}


def _ranked_by(jobs: Sequence[Job], metrics: Sequence[str]) -> str:
    """The metric that `best_metric` is, told by its values."""
    done = [job for job in jobs if job.done and job.outcome.best_metric is not None]
    in_order = [*(name for name in HEADLINES if name in metrics), *metrics]
    return next(
        (
            name
            for name in in_order
            if done and all(job.number(name) == job.outcome.best_metric for job in done)
        ),
        "",
    )


def _order(state: str) -> int:
    return ORDER.index(state) if state in ORDER else len(ORDER)


def _best(job: Job) -> float:
    return -math.inf if job.outcome.best_metric is None else job.outcome.best_metric
