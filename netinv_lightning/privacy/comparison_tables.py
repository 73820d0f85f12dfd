"""Tables of the comparison with members and held-out images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netinv_lightning import metric_names as names
from netinv_lightning.metrics.membership import GOOD
from netinv_lightning.privacy.comparison import Comparison
from netinv_lightning.privacy.control_sets import PLANTED_SHARE
from netinv_lightning.privacy.real_images import RealImages
from netinv_lightning.runs.tables import Cell, Table

RECONSTRUCTIONS = "reconstructions"
"""Name of the row of the reconstructions; the other rows are controls."""
FULL_COLUMNS = (
    "auc",
    "auc_low",
    "auc_high",
    "gap",
    "gap_low",
    "gap_high",
    "p_value",
    "ssim_auc",
    "ssim_gap",
    "ssim_gap_low",
    "ssim_gap_high",
    "ssim_p_value",
    "nearest_member",
    "nearest_held_out",
    "good",
    "good_held_out",
)


def comparison_table(
    title: str, rows: Mapping[str, Comparison], real: RealImages, notes: Sequence[str] = ()
) -> Table:
    """Return the rounded table: one row per set of images, members against held-out images."""
    table_rows: list[list[Cell]] = [
        [
            name,
            row.n,
            row.ncc.auc,
            interval(row.ncc.auc_interval),
            row.ncc.gap,
            interval(row.ncc.gap_interval),
            row.ncc.p_value,
            row.good,
            row.good_held_out,
        ]
        for name, row in rows.items()
    ]
    approximate = "" if real.exchangeable else ", approximate because the two are different splits"
    own_notes = [
        f"{len(real.members.labels_n)} members of the training set against "
        f"{len(real.held_out.labels_n)} held-out images ({real.source}), as many of each class",
        "AUC, gap: normalised cross-correlation of a member with its nearest image, against that "
        "of a held-out image; 95 %: bootstrap interval; "
        f"p: permutation within classes{approximate}",
        "good: share of the pairs, matched one to one with members, with a structural similarity "
        f"above {GOOD}, as in the literature; held: the same with held-out images, the share due "
        "to typical images of the class",
        f"planted leak: {PLANTED_SHARE:.0%} of the members, noisy, among other real images: the "
        "positive control",
    ]
    columns = ("images", "n", "AUC", "95 %", "gap", "gap 95 %", "p", "good", "held")
    return Table(title, columns, table_rows, [*own_notes, *notes])


def full_table(rows: Mapping[str, Comparison]) -> Table:
    """Return the table for the CSV file: each number in its own cell."""
    metrics = {name: row.metrics(()) for name, row in rows.items()}
    cells: list[list[Cell]] = [
        [name, row.n, *(metrics[name][names.reconstruction(what)] for what in FULL_COLUMNS)]
        for name, row in rows.items()
    ]
    return Table("", ("images", "n", *FULL_COLUMNS), cells)


def class_table(title: str, comparison: Comparison, class_names: Sequence[str]) -> Table:
    """Return a table with one row per class."""
    rows: list[list[Cell]] = [
        [class_names[label], ncc.auc, *ncc.auc_interval, ncc.gap, *ncc.gap_interval, ncc.p_value]
        for label, ncc in comparison.classes.items()
    ]
    columns = ("class", "AUC", "AUC low", "AUC high", "gap", "gap low", "gap high", "p")
    return Table(title, columns, rows)


def interval(ends: tuple[float, float]) -> str:
    return f"{ends[0]:z.2f} to {ends[1]:z.2f}"
