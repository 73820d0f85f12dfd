"""Results of `application=detect_ood`: metrics, tables and figures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from netinv_lightning import metric_names as names
from netinv_lightning.ood.comparison import DetectorComparison
from netinv_lightning.ood.perturbation_figure import perturbation_curves
from netinv_lightning.ood.perturbation_results import PerturbationResults
from netinv_lightning.tracking.result import Figure, Result


def perturbation_result(study: PerturbationResults, title: str, figures: Path) -> Result:
    """Return the gains over Linf, the table and the curves of the study of perturbed images.

    Args:
        study: Results of `perturbation_study`.
        title: Title and caption of the figure.
        figures: Folder of the figures.
    """
    drawn = perturbation_curves(study, figures / "shifts", title)
    return Result(
        {
            names.ood_gain(gain.direction, gain.norm): gain.mean
            for gain in study.gains
            if gain.settings
        },
        unprinted={"shifts": study.table()},
        figures=[Figure(drawn, title)],
        lines=[study.verdict()],
    )


def comparison_result(
    comparison: DetectorComparison,
    metrics: Mapping[str, float],
    *,
    notes: Sequence[str],
    baselines: Collection[str],
    figures: Path,
) -> Result:
    """Return the tables and figures of all detectors and classifiers.

    Args:
        comparison: Outputs of all detectors and classifiers.
        metrics: Metrics of the comparison.
        notes: Notes of the table of detectors.
        baselines: Names of the detectors that are marked as baselines.
        figures: Folder of the figures.
    """
    tables = comparison.tables(metrics, list(notes))
    several = len(comparison.logits) > 1
    printed = ("detection", "classifiers") if several else ("detection",)
    drawn = comparison.draw(metrics, figures, baselines)
    return Result(
        {},
        tables={stem: tables.pop(stem) for stem in printed},
        unprinted=tables,
        figures=[
            Figure(path, f"{comparison.in_distribution}: {stem}") for stem, path in drawn.items()
        ],
    )
