"""The baselines of `application=benchmark`, measured once for all jobs of an experiment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from netinv_lightning.evaluation.benchmark_table import Group
from netinv_lightning.evaluation.report import Report
from netinv_lightning.runs.file_writing import write_json
from netinv_lightning.runs.outside_files import read_json


def baseline_groups(
    experiment: str, directory: Path, make_report: Callable[[], Report]
) -> tuple[list[Group], list[str]]:
    """Measure the baselines; a resumed benchmark reads them from their file.

    Args:
        experiment: Name of the experiment.
        directory: The run directory of the benchmark.
        make_report: Returns what measures them.

    Returns:
        One group per baseline, and a note about each metric that was skipped.
    """
    file = directory / f"baselines-{experiment}.json"
    earlier = directory / f"controls-{experiment}.json"  # its name in earlier versions
    if earlier.is_file():
        file = earlier
    elif not file.is_file():
        sets, skipped = make_report().baselines()
        write_json(file, {"sets": sets, "skipped": skipped})
    content: dict[str, Any] = read_json(file, directory)
    groups = []
    for name, (count, metrics) in content["sets"].items():
        groups.append(Group(experiment, f"baseline: {name}", "", f"{count} images"))
        groups[-1].add(metrics)
    skipped_notes = [
        f"skipped: {experiment}: {what}: {why}" for what, why in content["skipped"].items()
    ]
    return groups, skipped_notes
