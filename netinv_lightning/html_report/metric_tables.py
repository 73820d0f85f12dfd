"""Metrics in a page: each once, with its definition and whether higher or lower is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from netinv_lightning import metric_names as names
from netinv_lightning.config.metric_descriptions import describe
from netinv_lightning.html_report.csv_tables import CellShown, PageTable, cell, page_table
from netinv_lightning.runs.tables import Cell, Table

HEADLINES = (
    names.INVERSION_ACCURACY,
    names.INVERSION_ACCURACY_HOT,
    names.TRANSFER_ACCURACY,
    names.TRANSFER_ACCURACY_HOT,
    names.TRANSFER_CEILING,
    names.TRANSFER_WORST_CLASS,
    names.INTRA_CLASS_COSINE,
    names.VENDI,
    names.STEPS_TO_95,
    names.TARGET_REACHED,
    names.TARGET_CLOSED,
    names.CLASSIFIER_TEST_ACCURACY,
    names.OOD_MEAN_AUROC,
    names.RECONSTRUCTION_AUC,
    names.STUDENT_ACCURACY,
    names.COUNTERFEIT_SUCCESS,
    names.FINETUNE_ACCURACY,
    names.CLUSTERS,
)
"""Metrics that are shown first."""
MOST_CLASSES = 20
"""Largest number of class accuracies in a table."""
METRIC = "metric"
"""First column of a table whose rows are metrics."""


@dataclass(frozen=True)
class Headline:
    """One of the metrics that are shown first.

    Attributes:
        better: `higher`, `lower`, or empty.
    """

    name: str
    value: CellShown
    definition: str
    better: str


def headlines(metrics: Mapping[str, Any]) -> list[Headline]:
    return [
        Headline(name, cell(metrics[name]), *_meaning(name))
        for name in HEADLINES
        if name in metrics
    ]


def described(table: PageTable) -> PageTable:
    """Return the table with the direction and the definition of each metric.

    A table whose first column is not `metric` is returned unchanged.
    """
    if not of_metrics(table):
        return table
    rows = []
    for row in table.rows:
        definition, better = _meaning(row[0].full)
        rows.append([row[0], *row[1:], cell(better), cell(definition)])
    return replace(table, columns=[*table.columns, "better", "definition"], rows=rows)


def of_metrics(table: PageTable) -> bool:
    return bool(table.columns) and table.columns[0] == METRIC


def remaining_metrics(metrics: Mapping[str, Any], shown: Sequence[PageTable]) -> list[PageTable]:
    """Return the tables of the metrics that `shown` does not contain, one per prefix.

    If a kind has more than 20 class accuracies, only the lowest 20 are shown.
    """
    known = {row[0].full for table in shown if of_metrics(table) for row in table.rows}
    hidden: set[str] = set()
    notes: dict[str, list[str]] = {}
    for prefix in names.OF_CLASSES:
        of_classes = sorted(
            (name for name in metrics if name.startswith(prefix)), key=metrics.__getitem__
        )
        if len(of_classes) > MOST_CLASSES:
            hidden |= set(of_classes[MOST_CLASSES:])
            notes.setdefault(prefix.partition("/")[0], []).append(
                f"{prefix}...: the {MOST_CLASSES} lowest of {len(of_classes)} are shown, "
                "all are in summary.json"
            )
    groups: dict[str, list[list[Cell]]] = {}
    for name, value in metrics.items():
        if name not in hidden | known:
            groups.setdefault(name.partition("/")[0] if "/" in name else "", []).append(
                [name, value]
            )
    tables = [
        Table(prefix or "other", [METRIC, "value"], rows, notes.get(prefix, []))
        for prefix, rows in groups.items()
    ]
    return [
        described(page_table(table)) for table in sorted(tables, key=lambda table: len(table.rows))
    ]


def _meaning(name: str) -> tuple[str, str]:
    """Return the definition of a metric and its direction; empty if they are unknown."""
    of = describe(name.rstrip(" *"))
    return ("", "") if of is None else (of.definition.replace("`", ""), of.better)
