"""The table of measured metrics: a row per metric, a column per set of images."""

from __future__ import annotations

from collections.abc import Mapping

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.evaluation.measurement import notes_of_skipped
from netinv_lightning.evaluation.verdict import MEMORISATION_THRESHOLD
from netinv_lightning.metrics.manifold import NEIGHBOURS
from netinv_lightning.runs.tables import Cell, Table

OPTIMISED_GROUPS = ("inversion/", "stability/")
OPTIMISED = (names.INTRA_CLASS_COSINE, names.INTER_CLASS_COSINE, names.VENDI, names.VENDI_CLASS)
LEGEND = (
    "* computed from outputs or features of the inverted classifier, which the inversion "
    "optimises: measures the success of the optimisation, not the meaning of the images"
)


def measured_table(
    title: str,
    sets: Mapping[str, tuple[int, Mapping[str, float]]],
    *,
    verifiers: Mapping[str, FrozenClassifier],
    seed: int,
    skipped: Mapping[str, str],
) -> Table:
    """Return the table; optimised metrics have an asterisk, and in its CSV file a column.

    Args:
        title: Title of the table.
        sets: Number of images and metrics of each set of images.
        verifiers: Networks that the inversion does not use, by name.
        seed: Seed of the measurement.
        skipped: Reason for each skipped metric or baseline.
    """
    rows: list[list[Cell]] = [["images", "", *(n for n, _ in sets.values())]]
    for name in dict.fromkeys(name for _, metrics in sets.values() for name in metrics):
        rows.append(
            [
                name,
                "yes" if _is_optimised(name) else "",
                *(metrics.get(name) for _, metrics in sets.values()),
            ]
        )
    networks = ", ".join(f"{name}{_hash(of)}" for name, of in verifiers.items()) or "none"
    notes = [
        LEGEND,
        f"seed {seed}; k = {NEIGHBOURS} nearest neighbours",
        f"verifiers (their penultimate features are the feature extractors): {networks}",
        f"training-like also requires memorisation/gap_low above {MEMORISATION_THRESHOLD}, "
        "because training and test images differ slightly even without memorisation",
        *notes_of_skipped(skipped),
    ]
    return _with_marks(Table(title, ["metric", "optimised", *sets], rows, notes))


def _with_marks(table: Table) -> Table:
    """Return the table with optimised metrics marked by asterisks instead of in a column."""
    rows = [[f"{row[0]}{' *' if row[1] else ''}", *row[2:]] for row in table.rows]
    return Table(table.title, [table.columns[0], *table.columns[2:]], rows, table.notes, full=table)


def _is_optimised(name: str) -> bool:
    return name.startswith(OPTIMISED_GROUPS) or name in OPTIMISED


def _hash(verifier: FrozenClassifier) -> str:
    sha256 = verifier.card.get("sha256")
    return f" (sha256 {sha256[:12]})" if sha256 else ""
