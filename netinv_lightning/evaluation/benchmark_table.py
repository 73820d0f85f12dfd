"""The tables of `application=benchmark`: mean and spread over the seeds, and the baselines."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from netinv_lightning import metric_names as names
from netinv_lightning.config.method_registry import Method
from netinv_lightning.runs.outside_files import read_json
from netinv_lightning.runs.tables import Cell, Table, format_cell

DIVERSITY, DISTANCE = "diversity", "distance"
SHOWN = {
    names.INVERSION_ACCURACY: "accuracy",
    names.TRANSFER_ACCURACY: "transfer",
    names.INTRA_CLASS_COSINE: "intra *",
    DIVERSITY: "diversity",
    DISTANCE: "distance",
    names.CAS: "CAS",
    names.SECONDS: "seconds",
    names.CLASSIFIER_FORWARDS: "forward",
    names.CLASSIFIER_BACKWARDS: "backward",
    names.QUERIES: "queries",
    names.PEAK_MEMORY_MB: "MiB",
}
"""Columns of the printed table, if a row has a value. The CSV file has every metric."""
LEGENDS = {
    "intra *": "* in features that the objective optimised",
    DIVERSITY: "diversity: Vendi score within a class, in features of the verifiers",
    DISTANCE: "distance: 1 - correlation with the nearest training image",
    "CAS": "CAS: accuracy on real images of a network that was trained on these images",
    "forward": "forward, backward: images passed through the classifier",
}
"""What a column of the printed table contains."""
COSTS = (
    names.SECONDS,
    names.CLASSIFIER_FORWARDS,
    names.CLASSIFIER_BACKWARDS,
    names.QUERIES,
    names.PEAK_MEMORY_MB,
)
"""Columns without a standard deviation."""
KEYS = ("experiment", "method", "conditioning")


@dataclass
class Group:
    """The results of all seeds of one combination, or of one baseline.

    Attributes:
        images_of: For a combination, how many of its seeds are done; for a baseline, its number of
            images.
        values: The values of each metric, one per seed.
        verdict: The verdicts of the seeds; empty for a baseline.
        access: What the method needs of the classifier, and whether it needs data; empty for a
            baseline.
    """

    experiment: str
    method: str
    conditioning: str
    images_of: str
    values: dict[str, list[float]] = field(default_factory=dict)
    verdict: str = ""
    access: str = ""

    def add(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.values.setdefault(name, []).append(value)

    def of(self, column: str) -> list[float]:
        """Return the values of a column of the printed table, one per seed.

        `DIVERSITY` is the mean over the verifiers of the Vendi score within a class. `DISTANCE` is
        1 minus the correlation with the nearest training image.
        """
        if column == DISTANCE:
            return [1 - value for value in self.of(names.MEMORISATION_NEAREST_TRAINING)]
        if column == DIVERSITY:
            scores = [
                values
                for name, values in self.values.items()
                if name.startswith(f"{names.VENDI_CLASS}/")
            ]
            return [statistics.fmean(of_seed) for of_seed in zip(*scores, strict=True)]
        return self.values.get(column, [])

    def mean(self, column: str) -> float | None:
        values = self.of(column)
        return statistics.fmean(values) if values else None

    def spread(self, column: str) -> float | None:
        """Standard deviation over the seeds; None for fewer than two."""
        values = self.of(column)
        return statistics.stdev(values) if len(values) > 1 else None


def access_of(method: Method) -> str:
    """Return what a method needs of the classifier, and whether it needs data."""
    return f"{method.access} and data" if method.data else method.access


def read_group(
    combination: tuple[str, str, str], jobs: int, finished: Sequence[Path], access: str = ""
) -> Group:
    """Return the results of one combination.

    Args:
        combination: Experiment, method and conditioning.
        jobs: Number of its seeds.
        finished: The run directories that are done.
        access: See `Group`.
    """
    group = Group(*combination, f"{len(finished)}/{jobs} seeds", access=access)
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
        column: title
        for column, title in SHOWN.items()
        if any(group.of(column) for group in groups)
    }
    rows: list[list[Cell]] = []
    for group in groups:
        cells = [_mean_and_spread(group, column) for column in shown]
        keyed = [getattr(group, key) for key in keys]
        rows.append([*keyed, group.access, group.images_of, *cells, group.verdict])
    return Table(
        f"Benchmark: {', '.join([name, *same])}",
        [*keys, "access", "of", *shown.values(), "verdict"],
        rows,
        [
            "mean ± standard deviation over the seeds; benchmark.csv contains every metric",
            "access: what a method needs of the classifier; weights include gradients, and so on",
            *(LEGENDS[title] for title in shown.values() if title in LEGENDS),
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
        rows.append([*keyed, group.access, group.images_of, group.verdict, *cells])
    columns = [column for metric in metrics for column in (metric, f"{metric} spread")]
    return Table("", [*KEYS, "access", "of", "verdict", *columns], rows)


def _mean_and_spread(group: Group, column: str) -> str:
    mean, spread = group.mean(column), group.spread(column)
    if column in COSTS:
        return "" if mean is None else f"{mean:.0f}"
    if spread is None:
        return format_cell(mean)
    return f"{format_cell(mean)} ± {format_cell(spread)}"
