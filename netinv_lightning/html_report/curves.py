"""Charts of `metrics.csv`: one curve per column, thinned out and grouped by subject."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from netinv_lightning import metric_names as names
from netinv_lightning.html_report.files import Folder
from netinv_lightning.runs.outside_files import read_lines

MOST_POINTS = 600
"""Largest number of points of a curve in a page."""

MOST_HELD = 20_000
"""Largest number of values of a column in memory; longer columns are thinned while reading."""
MOST_COLUMNS = 2_000
MOST_BYTES = 2**30
"""Largest size of a `metrics.csv` that is read."""

AXIS = "step"
LOSSES = "Loss terms"


@dataclass
class Curve:
    """Values of a metric at steps; both lists have the same length."""

    label: str
    steps: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass
class Chart:
    """Curves that share one plot."""

    title: str
    curves: list[Curve]

    @property
    def log(self) -> bool:
        """Whether the axis of the values is logarithmic at first: losses above 0 are."""
        positive = all(value > 0 for curve in self.curves for value in curve.values)
        return self.title == LOSSES and positive


def read_charts(folder: Folder) -> list[Chart]:
    """Return the charts of a run. Columns with fewer than two values are left out.

    Damaged rows, such as the last one after a kill, are left out and noted.
    """
    try:
        columns, damaged = _columns(
            read_lines(folder.path / "metrics.csv", folder.path, MOST_BYTES)
        )
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        folder.failed("metrics.csv", "cannot be read", error)
        return []
    if damaged:
        folder.note("metrics.csv", f"is damaged: {damaged}")
    charts: dict[str, Chart] = {}
    for name, (steps, values) in columns.items():
        if len(values) < 2:
            continue
        title, label = _title_and_label(name)
        chart = charts.setdefault(title, Chart(title, []))
        chart.curves.append(Curve(label, *thinned(steps, values)))
    return list(charts.values())


def thinned(
    steps: Sequence[float], values: Sequence[float], most: int = MOST_POINTS
) -> tuple[list[float], list[float]]:
    """Return at most `most` points: the minimum and the maximum of each segment.

    Spikes therefore remain visible.

    Args:
        steps: Ascending steps.
        values: Values at these steps.
        most: Largest number of points, at least 4.
    """
    if len(values) <= most:
        return list(steps), list(values)
    segments = most // 2 - 1
    chosen = {0, len(values) - 1}
    for number in range(segments):
        segment = range(number * len(values) // segments, (number + 1) * len(values) // segments)
        chosen |= {min(segment, key=values.__getitem__), max(segment, key=values.__getitem__)}
    ordered = sorted(chosen)
    return [steps[index] for index in ordered], [values[index] for index in ordered]


def _columns(text: Iterable[str]) -> tuple[dict[str, tuple[list[float], list[float]]], str]:
    """Return steps and finite values of each column, and a description of the damage."""
    rows = csv.reader(text)
    damaged = 0
    columns: dict[str, tuple[list[float], list[float]]] = {}
    try:
        header = next(rows, None)
        if header is None:
            return {}, ""
        if AXIS not in header:
            return {}, f"it has no column {AXIS}; all columns are left out"
        if len(header) > MOST_COLUMNS:
            return {}, f"it has more than {MOST_COLUMNS} columns ({len(header)}); all are left out"
        columns = {name: ([], []) for name in header if name != AXIS}
        of_columns = [columns.get(name) for name in header]
        axis = header.index(AXIS)
        for row in rows:
            try:
                numbers = [float(cell) if cell else math.nan for cell in row]
            except ValueError:
                numbers = []
            if len(numbers) != len(header):
                damaged += 1
                continue
            step = numbers[axis]
            for column, number in zip(of_columns, numbers, strict=True):
                if column is None or not (math.isfinite(number) and math.isfinite(step)):
                    continue
                steps, values = column
                steps.append(step)
                values.append(number)
                if len(values) >= MOST_HELD:
                    steps[:], values[:] = thinned(steps, values, MOST_HELD // 2)
    except csv.Error as error:
        return {}, f"{error}; all columns are left out"
    rows_left_out = f"{damaged} {'row is' if damaged == 1 else 'rows are'} left out (not numbers)"
    return columns, rows_left_out if damaged else ""


def _title_and_label(name: str) -> tuple[str, str]:
    """Return the title of a metric's chart and the label of its curve."""
    prefix, _, rest = name.partition("/")
    if name.startswith(names.garbage("", "")[:-1]) and rest.count("/") == 1:
        classifier, what = rest.split("/")
        return f"Training with a garbage class: {what.replace('_', ' ')}", classifier
    if "accuracy" in rest:
        return "Accuracy", name
    if name.startswith(names.loss("")):
        return LOSSES, rest
    return prefix.replace("_", " ").capitalize(), rest or name
