"""Configs and results of short measurements."""

from __future__ import annotations

import csv
from pathlib import Path

DATA = ["data=mnist5k", "classifier.zoo=mnist_cnn"]  # real digits, available without a download
FEW_METRICS = [
    "measure.metrics=[accuracy,transfer,diversity]",
    "measure.controls=[noise,class_means,real]",
]


def measured_sets(directory: Path) -> dict[str, dict[str, float]]:
    """Return `measurement.csv` as {set of images: {metric: number}}."""
    with (directory / "measurement.csv").open() as file:
        rows = list(csv.DictReader(file))
    sets = [column for column in rows[0] if column not in ("metric", "optimised")]
    return {name: {row["metric"]: float(row[name]) for row in rows if row[name]} for name in sets}
