"""Transfer to the verifiers: overall, per verifier and per class, as metrics and as a table.

Shape suffixes: N classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.runs.tables import Cell, Table

TOP = 5
"""The k of the top-k accuracy."""


def transfer_metrics(
    verifiers: Mapping[str, Mapping[str, Tensor]], class_names: Sequence[str], hot: bool = False
) -> dict[str, float]:
    """Return the accuracy of the verifiers: mean and each, per class, and of the worst class.

    The top-5 accuracy is included with soft vectors if N > 5.

    Args:
        verifiers: For each verifier, the values of `metrics.accuracy.InversionAccuracy`.
        class_names: Names of the N classes.
        hot: Whether the images are conditioned on one-hot vectors.
    """
    accuracy, worst = (
        (names.TRANSFER_ACCURACY_HOT, names.TRANSFER_WORST_CLASS_HOT)
        if hot
        else (names.TRANSFER_ACCURACY, names.TRANSFER_WORST_CLASS)
    )
    per_class = {
        verifier: of_classes(accuracy, of["confusion_NN"], class_names)
        for verifier, of in verifiers.items()
    }
    metrics = with_mean(accuracy, {name: float(of["accuracy"]) for name, of in verifiers.items()})
    if not hot and len(class_names) > TOP:
        top5 = {name: float(of["top5"]) for name, of in verifiers.items()}
        metrics |= with_mean(names.TRANSFER_TOP5, top5)
    smallest = {name: min(values.values()) for name, values in per_class.items() if values}
    if smallest:
        metrics[worst] = min(smallest.values())
        metrics |= {names.of_network(worst, name): value for name, value in smallest.items()}
    for name in next(iter(per_class.values()), {}):
        metrics |= with_mean(name, {verifier: of[name] for verifier, of in per_class.items()})
    return metrics


def transfer_table(
    metrics: Mapping[str, float], class_names: Sequence[str], verifiers: Sequence[str]
) -> Table | None:
    """Return a row per class, smallest transfer first; None if no transfer was measured.

    The columns are the share of images that each verifier assigns to the class, with soft and with
    one-hot conditioning vectors.
    """
    kinds = {"soft": names.TRANSFER_ACCURACY, "hot": names.TRANSFER_ACCURACY_HOT}
    columns = {
        f"{verifier}, {kind}": (name, verifier)
        for verifier in verifiers
        for kind, name in kinds.items()
        if names.of_network(name, verifier) in metrics
    }
    rows: list[list[Cell]] = []
    for label in class_names:
        values = [
            metrics.get(names.of_network(names.class_accuracy(label, name), verifier))
            for name, verifier in columns.values()
        ]
        if any(value is not None for value in values):
            rows.append([label, *values])
    if not rows:
        return None
    rows.sort(key=lambda row: min(float(value) for value in row[1:] if value is not None))
    last: list[Cell] = ["all", *(metrics[names.of_network(*of)] for of in columns.values())]
    note = "share of the images of each class that each verifier assigns to it"
    return Table("Transfer per class", ["class", *columns], [*rows, last], [note])


def of_classes(name: str, confusion_NN: Tensor, class_names: Sequence[str]) -> dict[str, float]:
    """Return the accuracy of each class that has samples; requested labels are in the rows."""
    counts = zip(
        class_names, confusion_NN.diagonal().tolist(), confusion_NN.sum(dim=1).tolist(), strict=True
    )
    return {names.class_accuracy(label, name): hits / n for label, hits, n in counts if n}


def with_mean(name: str, by_network: Mapping[str, float]) -> dict[str, float]:
    """Return a metric per network, and its mean under `name`."""
    if not by_network:
        return {}
    return {name: sum(by_network.values()) / len(by_network)} | {
        names.of_network(name, network): value for network, value in by_network.items()
    }
