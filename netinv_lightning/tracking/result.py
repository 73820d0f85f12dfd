"""What a computation returns, and how it becomes files, log entries and printed lines."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from netinv_lightning import metric_names as names
from netinv_lightning.errors import printable
from netinv_lightning.runs.outside_files import read_json_object
from netinv_lightning.runs.tables import Table, print_table, write_csv, write_table
from netinv_lightning.tracking.loggers import log_artifact, log_image
from netinv_lightning.tracking.run_context import RunContext


class Figure(NamedTuple):
    """A figure that was drawn.

    Attributes:
        path: The PNG file.
        caption: Shown below it by the loggers.
        name: Name in the loggers; by default `figures/` and the name of the file.
    """

    path: Path
    caption: str
    name: str = ""


class Artifact(NamedTuple):
    """Files that belong together and that W&B stores as one artifact.

    Attributes:
        kind: `classifier` or `generator`.
        paths: The files.
    """

    kind: str
    paths: tuple[Path, ...]


@dataclass
class Result:
    """What a computation found.

    Attributes:
        metrics: Metric name to value.
        step: Training step at which the metrics are logged; None if they are not logged.
        tables: Printed, and written as Markdown and CSV, by file name without extension.
        unprinted: The same, but not printed.
        lists: Written as CSV only.
        figures: Logged; they are files already.
        artifacts: Logged.
        lines: Printed at the end, before the verdict, the path of the first figure and the command
            for the report.
        failure: Raised as a RuntimeError after everything was written; empty if nothing failed.
    """

    metrics: dict[str, float]
    step: int | None = 0
    tables: Mapping[str, Table] = field(default_factory=dict)
    unprinted: Mapping[str, Table] = field(default_factory=dict)
    lists: Mapping[str, Table] = field(default_factory=dict)
    figures: Sequence[Figure] = ()
    artifacts: Sequence[Artifact] = ()
    lines: Sequence[str] = ()
    failure: str = ""

    def include(self, other: Result) -> None:
        """Add what a part of the computation found; its step and failure are ignored."""
        self.metrics = {**self.metrics, **other.metrics}
        self.tables = {**self.tables, **other.tables}
        self.unprinted = {**self.unprinted, **other.unprinted}
        self.lists = {**self.lists, **other.lists}
        self.figures = [*self.figures, *other.figures]
        self.artifacts = [*self.artifacts, *other.artifacts]
        self.lines = [*self.lines, *other.lines]

    def publish(self, run: RunContext) -> None:
        """Write, log and print the result.

        Raises:
            RuntimeError: if a part of the computation failed.
        """
        if self.step is not None:
            for logger in run.loggers:
                logger.log_metrics(self.metrics, step=self.step)
        for stem, table in {**self.unprinted, **self.tables}.items():
            write_table(table, run.path, stem)
        for stem, table in self.lists.items():
            write_csv(table, run.path / f"{stem}.csv")
        for table in self.tables.values():
            print_table(table)
        for path, caption, name in self.figures:
            log_image(run.loggers, name or names.figure(path.stem), path, self.step or 0, caption)
        for kind, paths in self.artifacts:
            log_artifact(run.loggers, kind, f"{run.cfg.name}-seed{run.cfg.seed}", *paths)
        closing = self._closing_lines(run.path)
        for line in (*(line for line in self.lines if line not in closing), *closing):
            print(line)
        if self.failure:
            raise RuntimeError(self.failure)

    def _closing_lines(self, path: Path) -> list[str]:
        """Return what the images are, where the picture is, and the command for the report."""
        verdict = read_json_object(path / "verdict.json", path).get("line")
        return [
            *([printable(str(verdict))] if verdict else []),
            *(f"picture: {figure.path}" for figure in self.figures[:1]),
            f"report: netinv report {shlex.quote(str(path))}",
        ]
