"""The tables of `application=benchmark`: mean and spread over the seeds, and the baselines."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from netinv_lightning import metric_names as names
from netinv_lightning.runs.outside_files import read_json
from netinv_lightning.runs.tables import Cell, Table, format_cell

SHOWN = {
    names.INVERSION_ACCURACY: "accuracy",
    names.TRANSFER_ACCURACY: "transfer",
    names.INTRA_CLASS_COSINE: "intra *",
    names.SECONDS: "seconds",
    names.QUERIES: "queries",
}
"""Columns of the printed table; `queries` only for a black box. The CSV file has every metric."""
KEYS = ("experiment", "method", "conditioning")


@dataclass
class Group:
    """The results of all seeds of one combination, or of one baseline.

    Attributes:
        images_of: For a combination, how many of its seeds are done; for a baseline, its number of
            images.
        values: The values of each metric, one per seed.
        verdict: The verdicts of the seeds; empty for a baseline.
    """

    experiment: str
    method: str
    conditioning: str
    images_of: str
    values: dict[str, list[float]] = field(default_factory=dict)
    verdict: str = ""

    def add(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.values.setdefault(name, []).append(value)

    def mean(self, metric: str) -> float | None:
        return statistics.fmean(self.values[metric]) if metric in self.values else None

    def spread(self, metric: str) -> float | None:
        """Standard deviation over the seeds; None for fewer than two."""
        values = self.values.get(metric, ())
        return statistics.stdev(values) if len(values) > 1 else None


def read_group(combination: tuple[str, str, str], jobs: int, finished: Sequence[Path]) -> Group:
    """Return the results of one combination.

    Args:
        combination: Experiment, method and conditioning.
        jobs: Number of its seeds.
        finished: The run directories that are done.
    """
    group = Group(*combination, f"{len(finished)}/{jobs} seeds")
    verdicts: Counter[str] = Counter()
    for directory in finished:
        group.add(read_json(directory / "summary.json", directory))
        verdicts[str(read_json(directory / "verdict.json", directory)["verdict"])] += 1
    group.verdict = ", ".join(
        f"{count} {verdict}" if len(verdicts) > 1 else verdict
        for verdict, count in verdicts.items()
    )
    return group


def benchmark_table(name: str, groups: Sequence[Group], notes: Sequence[str]) -> Table:
    """Return a table with one row per group; the title contains the keys common to all groups."""
    of_inversions = {
        key: {getattr(group, key) for group in groups if group.verdict or not group.values}
        for key in KEYS
    }
    same = [value for values in of_inversions.values() if len(values) == 1 for value in values]
    keys = [key for key in KEYS if key == "method" or len(of_inversions[key]) > 1]
    shown = {
        metric: title
        for metric, title in SHOWN.items()
        if metric != names.QUERIES or any(metric in group.values for group in groups)
    }
    rows: list[list[Cell]] = []
    for group in groups:
        cells = [_mean_and_spread(group, metric) for metric in shown]
        keyed = [getattr(group, key) for key in keys]
        rows.append([*keyed, group.images_of, *cells, group.verdict])
    return Table(
        f"Benchmark: {', '.join([name, *same])}",
        [*keys, "of", *shown.values(), "verdict"],
        rows,
        [
            "mean ± standard deviation over the seeds",
            "* in features that the objective optimised; benchmark.csv contains every metric",
            *notes,
        ],
        full=_all_metrics(groups),
    )


def _all_metrics(groups: Sequence[Group]) -> Table:
    metrics = list(dict.fromkeys(metric for group in groups for metric in group.values))
    rows: list[list[Cell]] = []
    for group in groups:
        cells = [cell for metric in metrics for cell in (group.mean(metric), group.spread(metric))]
        keyed = [getattr(group, key) for key in KEYS]
        rows.append([*keyed, group.images_of, group.verdict, *cells])
    columns = [column for metric in metrics for column in (metric, f"{metric} spread")]
    return Table("", [*KEYS, "of", "verdict", *columns], rows)


def _mean_and_spread(group: Group, metric: str) -> str:
    mean, spread = group.mean(metric), group.spread(metric)
    if spread is None or metric == names.SECONDS:
        return format_cell(mean)
    return f"{format_cell(mean)} ± {format_cell(spread)}"
