"""`metrics.csv` as charts: which columns are curves, which belong together, and few enough points of each."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from netinv_lightning import metric_names as names
from netinv_lightning.html_report.files import Folder
from netinv_lightning.runs.outside_files import lines

MOST_POINTS = 1000
"""Points of a curve in a page; more cannot be told apart on a screen."""

MOST_HELD = 20_000
"""Values of a column that are held while a file is read; of more, each stretch keeps its least and its greatest."""
MOST_COLUMNS = 2_000
MOST_BYTES = 2**30
"""Bytes of a `metrics.csv` that is read."""

AXIS = "step"


@dataclass
class Curve:
    """A metric over steps; both lists have the same length."""

    label: str
    steps: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass
class Chart:
    """Curves that are drawn together."""

    title: str
    curves: list[Curve]


def read_charts(folder: Folder) -> list[Chart]:
    """The charts of a run; a column with less than two values is no curve but a number of the summary.

    Rows that are damaged, as the last one after a kill, are left out and noted.
    """
    try:
        columns, damaged = _columns(lines(folder.path / "metrics.csv", folder.path, MOST_BYTES))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        folder.failed("metrics.csv", "cannot be read", error)
        return []
    if damaged:
        folder.note("metrics.csv", f"is damaged; left out: {damaged}")
    charts: dict[str, Chart] = {}
    for name, (steps, values) in columns.items():
        if len(values) < 2:
            continue
        title, label = _place(name)
        chart = charts.setdefault(title, Chart(title, []))
        chart.curves.append(Curve(label, *thinned(steps, values)))
    return list(charts.values())


def thinned(
    steps: Sequence[float], values: Sequence[float], most: int = MOST_POINTS
) -> tuple[list[float], list[float]]:
    """At most `most` points, among them the least and the greatest value of each stretch, so that no spike is lost.

    Args:
        steps: Where, ascending.
        values: What, of the same length.
        most: At least 4.
    """
    if len(values) <= most:
        return list(steps), list(values)
    stretches = most // 2 - 1
    kept = {0, len(values) - 1}
    for number in range(stretches):
        stretch = range(number * len(values) // stretches, (number + 1) * len(values) // stretches)
        kept |= {min(stretch, key=values.__getitem__), max(stretch, key=values.__getitem__)}
    ordered = sorted(kept)
    return [steps[index] for index in ordered], [values[index] for index in ordered]


def _columns(text: Iterable[str]) -> tuple[dict[str, tuple[list[float], list[float]]], str]:
    """Finite values by column, each with its steps, thinned where there are very many; and what was damaged, in words."""
    rows = csv.reader(text)
    damaged = 0
    columns: dict[str, tuple[list[float], list[float]]] = {}
    try:
        header = next(rows, None)
        if header is None:
            return {}, ""
        if AXIS not in header:
            return {}, f"everything, since no column is called {AXIS}"
        if len(header) > MOST_COLUMNS:
            return {}, f"everything, since it has {len(header)} columns, more than {MOST_COLUMNS}"
        columns = {name: ([], []) for name in header if name != AXIS}
        for row in rows:
            try:
                numbers = dict(
                    zip(header, (float(cell) if cell else math.nan for cell in row), strict=True)
                )
            except ValueError:
                damaged += 1
                continue
            for name, (steps, values) in columns.items():
                if math.isfinite(numbers[name]) and math.isfinite(numbers[AXIS]):
                    steps.append(numbers[AXIS])
                    values.append(numbers[name])
                    if len(values) >= MOST_HELD:
                        columns[name] = thinned(steps, values, MOST_HELD // 2)
    except csv.Error as error:
        return {}, f"everything ({error})"
    return (
        columns,
        f"{damaged} {'row' if damaged == 1 else 'rows'} that cannot be read as numbers"
        if damaged
        else "",
    )


def _place(name: str) -> tuple[str, str]:
    """The title of a metric's chart, and what its curve is called there."""
    prefix, _, rest = name.partition("/")
    if name.startswith(names.garbage("", "")[:-1]) and rest.count("/") == 1:
        classifier, what = rest.split("/")
        return f"With a garbage class: {what.replace('_', ' ')}", classifier
    if "accuracy" in rest:
        return "Accuracy", name
    if name.startswith(names.loss("")):
        return "Terms of the loss", rest
    return prefix.replace("_", " ").capitalize(), rest or name
