"""Data of one run in a report of several runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from netinv_lightning.html_report.outcome import Outcome, number
from netinv_lightning.html_report.pictures import Picture
from netinv_lightning.runs.sweep_table import ORDER

PAGE = "report.html"


@dataclass
class Job:
    """One run in a report of several runs.

    Attributes:
        name: Name of its directory; the number of a job of a sweep.
        values: Values (as text) of the config keys that its command set.
        verdict: Name of its verdict; empty if there is none.
        picture: A small picture of its images; None if there is none.
    """

    name: str
    path: Path
    outcome: Outcome
    values: dict[str, str]
    verdict: str
    picture: Picture | None

    @property
    def done(self) -> bool:
        return self.outcome.state == "done"

    @property
    def page(self) -> Path | None:
        """The report of the run itself, if it exists."""
        return self.path / PAGE if (self.path / PAGE).is_file() else None

    def number(self, metric: str) -> float | None:
        return number(self.outcome.metrics.get(metric))


def state_order(state: str) -> int:
    """Return the sort key of a run state; unknown states are last."""
    return ORDER.index(state) if state in ORDER else len(ORDER)
