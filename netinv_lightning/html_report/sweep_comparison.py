"""Comparison of several runs: the keys in which they differ, their ranking, and tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from netinv_lightning import metric_names as names
from netinv_lightning.config.rank_by_check import lower_is_better
from netinv_lightning.html_report.csv_tables import CellShown, PageTable, cell, page_table
from netinv_lightning.html_report.files import flattened
from netinv_lightning.html_report.job import Job
from netinv_lightning.runs.tables import Cell, Table

SEED = "seed"
_NOT_COMPARED = ("hydra", "output", "sweep_output", "resume")
_PLACES = ("name", "data.root", *_NOT_COMPARED)


def set_values(jobs: Sequence[Job]) -> list[str]:
    """Set `values` of each job, and return the keys in which the jobs differ.

    The keys are those that the commands set or, if these do not differ, those that all configs
    contain. If the command of a run did not set a key, the value comes from its config.
    """
    flat = [dict(flattened(job.outcome.config)) for job in jobs]
    named = dict.fromkeys(key for job in jobs for key in job.values)
    shared = [key for key in flat[0] if all(key in config for config in flat)] if flat else []
    for keys in (
        [key for key in named if key not in _NOT_COMPARED],
        [key for key in shared if key not in _PLACES],
    ):
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


def ranking_metric(jobs: Sequence[Job], metrics: Sequence[str]) -> str:
    """Return the metric that ranks all finished runs, or "".

    Runs that do not store its name are compared by the first metric whose values equal
    `best_metric` of all.
    """
    done = [job for job in jobs if job.done and job.outcome.best_metric is not None]
    stored = {job.outcome.best_metric_name for job in done}
    if len(stored) == 1 and (name := stored.pop()) in metrics:
        return name
    return next(
        (
            name
            for name in metrics
            if done and all(job.number(name) == job.outcome.best_metric for job in done)
        ),
        "",
    )


def rank(job: Job, metric: str) -> float:
    """Return a number for sorting that is smallest for the best run."""
    value = job.outcome.best_metric
    if value is None:
        return math.inf
    return value if lower_is_better(metric) else -value


def runs_table(jobs: Sequence[Job], keys: Sequence[str], metrics: Sequence[str]) -> PageTable:
    """Return one row per run: state, verdict, first metrics, keys, other metrics, duration.

    The first metrics are the one that ranks the runs and the transfer accuracy.
    """
    verdicts = ["verdict"] if any(job.verdict for job in jobs) else []
    first = [name for name in metrics if name in (metrics[0], names.TRANSFER_ACCURACY)]
    others = [name for name in metrics if name not in first]
    columns = ["run", "state", *verdicts, *first, *keys, *others, "seconds"]
    rows: list[list[Cell]] = [
        [
            job.name,
            job.outcome.state,
            *([job.verdict] if verdicts else []),
            *map(job.number, first),
            *map(job.values.get, keys),
            *map(job.number, others),
            job.outcome.seconds,
        ]
        for job in jobs
    ]
    return linked_table(Table("Runs", columns, rows), jobs)


def linked_table(table: Table, jobs: Sequence[Job]) -> PageTable:
    """Return the table with a link from the first cell of each row to the report of its run."""
    shown = page_table(table)
    rows = [
        [replace(row[0], link=job.page), *row[1:]]
        for row, job in zip(shown.rows, jobs, strict=True)
    ]
    return replace(shown, rows=rows)


def seeds_table(
    jobs: Sequence[Job], keys: Sequence[str], metrics: Sequence[str]
) -> PageTable | None:
    """Return mean ± standard deviation over the runs that differ in their seed only.

    None if no two runs differ in their seed only.
    """
    keys = [key for key in keys if key != SEED]
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.values.get(key, "") for key in keys), []).append(job)
    if all(len(group) < 2 for group in groups.values()):
        return None
    rows = [
        [
            *map(cell, values),
            cell(f"{sum(job.done for job in group)} of {len(group)}"),
            *(_mean_and_deviation(_finished_values(group, name)) for name in metrics),
        ]
        for values, group in groups.items()
    ]
    if metrics:
        lower = lower_is_better(metrics[0])
        missing = "inf" if lower else "-inf"
        rows.sort(key=lambda row: float(row[len(keys) + 1].full or missing), reverse=not lower)
    note = "mean ± standard deviation (n - 1) over the finished runs with equal values of the keys"
    return PageTable("Mean over seeds", [*keys, "done", *metrics], rows, [note])


def _finished_values(jobs: Sequence[Job], metric: str) -> list[float]:
    return [value for job in jobs if job.done and (value := job.number(metric)) is not None]


def _mean_and_deviation(values: Sequence[float]) -> CellShown:
    """Return a cell that is sorted by the mean."""
    if not values:
        return cell(None)
    mean = cell(statistics.fmean(values))
    if len(values) == 1:
        return mean
    return replace(mean, text=f"{mean.text} ± {cell(statistics.stdev(values)).text}")


def chart_contents(
    jobs: Sequence[Job], keys: Sequence[str], ranked_by: str, metrics: Sequence[str]
) -> dict[str, Any]:
    """Return the data of the chart: keys, metrics and the values of each run."""
    return {
        "keys": keys,
        "metrics": [name for name in dict.fromkeys([ranked_by, *metrics]) if name],
        "runs": [
            {
                "name": job.name,
                "keys": job.values,
                "metrics": {m: v for m in metrics if (v := job.number(m)) is not None},
            }
            for job in jobs
        ],
    }
