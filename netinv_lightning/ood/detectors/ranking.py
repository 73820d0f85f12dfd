"""The slides' ranking of three detectors, re-made from measured numbers (A5-8).

S3, "Insights of OOD Detection using INN", gives a table without numbers, classifiers or data sets:

    OOD data                          softmax (SMOOD)    LC                 ODIN
    noisy (Gaussian, uniform)         baseline           best               lower than LC
    structured (like LSUN)            baseline           lower than ODIN    best

"Baseline" is read as lowest. Here SMOOD is `msp`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from netinv_lightning.runs.tables import Cell, Table

SLIDES = {"noisy": ("lc", "odin", "msp"), "structured": ("odin", "lc", "msp")}
"""The slides' detectors by kind of set, best first."""


@dataclass(frozen=True)
class Verdict:
    """On one of the slides' statements: that `above` tells the sets of a kind better than `below`."""

    kind: str
    """noisy or structured."""
    above: str
    below: str
    outcome: Literal["holds", "refuted", "not tested"]
    reason: str
    """Both mean AUROCs and in how many sets the statement is true, or what is missing."""


def verdicts(auroc: Mapping[str, Mapping[str, float]], noise: Collection[str]) -> list[Verdict]:
    """Judges every pair that the slides put in an order, by mean AUROC over the sets of a kind. A tie refutes.

    Args:
        auroc: By detector and set, in [0, 1]; every detector with the same sets.
        noise: Names of the sets that are noise, as far as they are in `auroc`; all other sets are structured.
    """
    judged = []
    for kind, sets in _kinds(auroc, noise).items():
        for above, below in combinations(SLIDES[kind], 2):
            absent = [detector for detector in (above, below) if detector not in auroc]
            if absent or not sets:
                reason = f"no {' and no '.join([*absent, *([] if sets else [f'{kind} set'])])}"
                judged.append(Verdict(kind, above, below, "not tested", reason))
                continue
            mean_above, mean_below = (_mean(auroc[detector], sets) for detector in (above, below))
            won = sum(auroc[above][name] > auroc[below][name] for name in sets)
            reason = f"{above} {mean_above:.4f}, {below} {mean_below:.4f}; true in {won} of {len(sets)} sets"
            judged.append(
                Verdict(
                    kind, above, below, "holds" if mean_above > mean_below else "refuted", reason
                )
            )
    return judged


def ranking_table(auroc: Mapping[str, Mapping[str, float]], noise: Collection[str]) -> Table:
    """Ranks detectors on noisy and on structured sets, beside the slides' own ranks; the verdicts are its notes.

    Args:
        auroc: By detector and set, in [0, 1]; every detector with the same sets.
        noise: Names of the sets that are noise, as far as they are in `auroc`; all other sets are structured.

    Returns:
        A row a detector: for both kinds the mean AUROC, the rank by it among all detectors (1 is best; equals share a rank), and the
        slides' rank of their three. Cells of a kind without sets are empty.
    """
    kinds = _kinds(auroc, noise)
    means = {
        kind: {detector: _mean(auroc[detector], sets) for detector in auroc}
        for kind, sets in kinds.items()
        if sets
    }
    rows: list[list[Cell]] = []
    for detector in auroc:
        row: list[Cell] = [detector]
        for kind, order in SLIDES.items():
            mean = means.get(kind)
            row += (
                [mean[detector], 1 + sum(other > mean[detector] for other in mean.values())]
                if mean
                else [None, None]
            )
            row.append(order.index(detector) + 1 if detector in order else None)
        rows.append(row)
    columns = [
        "detector",
        *(f"{kind}: {what}" for kind in SLIDES for what in ("mean AUROC", "rank", "slides' rank")),
    ]
    notes = [f"{kind}: {', '.join(sets) or 'no set'}" for kind, sets in kinds.items()]
    notes += [
        f"{v.kind}, {v.above} > {v.below}: {v.outcome} ({v.reason})" for v in verdicts(auroc, noise)
    ]
    return Table(
        "The slides' ranking of detectors",
        columns,
        rows,
        [*notes, "verdicts compare means; they say nothing of chance"],
    )


def _kinds(
    auroc: Mapping[str, Mapping[str, float]], noise: Collection[str]
) -> dict[str, list[str]]:
    """The sets of each kind, in the slides' order of kinds."""
    sets = list(next(iter(auroc.values()), {}))
    return {
        "noisy": [name for name in sets if name in noise],
        "structured": [name for name in sets if name not in noise],
    }


def _mean(of_set: Mapping[str, float], sets: list[str]) -> float:
    return sum(of_set[name] for name in sets) / len(sets)
