"""How a run ended: its state, error, config and metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netinv_lightning.html_report.files import Folder
from netinv_lightning.runs.directory_lock import is_held


@dataclass
class Outcome:
    """Contents of `status.json`, `config.yaml` and `summary.json`.

    Attributes:
        state: `done`, `failed`, `refused`, `running`, `killed`, or `not run`.
        error: One line; empty if there was no error.
        seconds: Duration; None if it is unknown.
        best_metric: The number by which a sweep compares runs; None if it is unknown.
        best_metric_name: Name of its metric; empty if it is unknown.
        config: Nested, as in the file.
        metrics: Metric name to number.
    """

    state: str
    error: str
    seconds: float | None
    best_metric: float | None
    wandb_run_id: str | None
    config: dict[str, Any]
    metrics: dict[str, Any]
    best_metric_name: str = ""

    @property
    def name(self) -> str:
        return str(self.config.get("name") or "")


def is_run(path: Path) -> bool:
    """Whether the directory is a run directory."""
    return (path / "status.json").is_file() or (path / "config.yaml").is_file()


def read_outcome(folder: Folder) -> Outcome:
    """Read how a run ended. Each of its files may be missing."""
    status = folder.json("status.json")
    state = str(status.get("state") or "not run")
    if state == "running" and not is_held(folder.path):
        state = "killed"
    if status.get("refused"):
        state = "refused"
    return Outcome(
        state=state,
        error=str(status.get("error") or ""),
        seconds=number(status.get("seconds")),
        best_metric=number(status.get("best_metric")),
        wandb_run_id=str(status["wandb_run_id"]) if status.get("wandb_run_id") else None,
        config=folder.yaml("config.yaml"),
        metrics=folder.json("summary.json"),
        best_metric_name=str(status.get("best_metric_name") or ""),
    )


def number(value: Any) -> float | None:
    """Return a finite number; None for any other value of a file."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
