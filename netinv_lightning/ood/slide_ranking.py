"""The ranking of LC, ODIN and MSP in the slides, tested with measured AUROCs.

The slides (Taparia, "Insights of OOD Detection using INN") print this ranking without numbers,
classifiers or data sets:

    OOD data                          softmax (SMOOD)    LC                 ODIN
    noisy (Gaussian, uniform)         baseline           best               lower than LC
    structured (like LSUN)            baseline           lower than ODIN    best

We read "baseline" as lowest. SMOOD is `msp`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from netinv_lightning.runs.tables import Cell, Table

SLIDES = {"noisy": ("lc", "odin", "msp"), "structured": ("odin", "lc", "msp")}
"""Detectors of the slides by kind of data set, best first."""


@dataclass(frozen=True)
class RankingVerdict:
    """Verdict on one claim: `above` has a higher mean AUROC than `below`."""

    kind: str
    """noisy or structured."""
    above: str
    below: str
    outcome: Literal["holds", "refuted", "not tested"]
    reason: str
    """Both mean AUROCs and the number of data sets on which the claim is true, or what is missing.
    """


def ranking_verdicts(
    auroc: Mapping[str, Mapping[str, float]], noise: Collection[str]
) -> list[RankingVerdict]:
    """Test each pair of the ranking by the mean AUROC over the data sets of a kind.

    A tie refutes the claim.

    Args:
        auroc: AUROC by detector and data set, in [0, 1]; every detector has the same data sets.
        noise: Names of the data sets that are noise; all others are structured.
    """
    verdicts = []
    for kind, sets in _sets_by_kind(auroc, noise).items():
        for above, below in combinations(SLIDES[kind], 2):
            missing = [detector for detector in (above, below) if detector not in auroc]
            if missing or not sets:
                reason = f"no {' and no '.join([*missing, *([] if sets else [f'{kind} set'])])}"
                verdicts.append(RankingVerdict(kind, above, below, "not tested", reason))
                continue
            mean_above, mean_below = (_mean(auroc[detector], sets) for detector in (above, below))
            wins = sum(auroc[above][name] > auroc[below][name] for name in sets)
            reason = (
                f"{above} {mean_above:.4f}, {below} {mean_below:.4f}; "
                f"true in {wins} of {len(sets)} sets"
            )
            outcome: Literal["holds", "refuted"] = "holds" if mean_above > mean_below else "refuted"
            verdicts.append(RankingVerdict(kind, above, below, outcome, reason))
    return verdicts


def ranking_table(auroc: Mapping[str, Mapping[str, float]], noise: Collection[str]) -> Table:
    """Rank the detectors on noisy and structured data sets, and list the ranks of the slides.

    The notes of the table give the verdicts.

    Args:
        auroc: AUROC by detector and data set, in [0, 1]; every detector has the same data sets.
        noise: Names of the data sets that are noise; all others are structured.

    Returns:
        One row per detector: for each kind the mean AUROC, the rank by it among all detectors (1 is
        best; ties share a rank), and the rank in the slides. Cells of a kind without data sets are
        empty.
    """
    kinds = _sets_by_kind(auroc, noise)
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
    notes = [
        *(f"{kind}: {', '.join(sets) or 'no set'}" for kind, sets in kinds.items()),
        *(
            f"{claim.kind}, {claim.above} > {claim.below}: {claim.outcome} ({claim.reason})"
            for claim in ranking_verdicts(auroc, noise)
        ),
        "verdicts compare means; they do not test significance",
    ]
    return Table("Ranking of the detectors, and the ranking of the slides", columns, rows, notes)


def _sets_by_kind(
    auroc: Mapping[str, Mapping[str, float]], noise: Collection[str]
) -> dict[str, list[str]]:
    """Return the data sets of each kind, in the order of the kinds in `SLIDES`."""
    sets = list(next(iter(auroc.values()), {}))
    return {
        "noisy": [name for name in sets if name in noise],
        "structured": [name for name in sets if name not in noise],
    }


def _mean(auroc_by_set: Mapping[str, float], sets: list[str]) -> float:
    return sum(auroc_by_set[name] for name in sets) / len(sets)
