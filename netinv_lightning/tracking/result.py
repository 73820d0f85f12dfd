"""The result of a computation, and its output as files, log entries and printed lines."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from netinv_lightning import metric_names as names
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError, one_line, printable
from netinv_lightning.runs.outside_files import read_json_object
from netinv_lightning.runs.tables import Table, print_table, write_csv, write_table
from netinv_lightning.tracking.loggers import log_artifact, log_description, log_image
from netinv_lightning.tracking.run_context import RunContext

log = logging.getLogger(__name__)


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


def classifier_artifact(path: Path) -> Artifact:
    """Return a stored classifier with its model card."""
    return Artifact("classifier", (path, path.with_suffix(".json")))


@dataclass
class Result:
    """The result of a computation.

    Attributes:
        metrics: Metric name to value.
        step: Training step at which the metrics are logged; None if they are not logged.
        tables: Tables that are printed and written as Markdown and CSV, by file name without
            extension.
        unprinted: Tables that are written like `tables`, but not printed.
        lists: Tables that are written as CSV only.
        figures: Figures to log; their files exist already.
        artifacts: Artifacts to log.
        lines: Lines to print at the end, before the verdict, the path of the first figure and the
            command for the report.
        failure: Message of the RuntimeError to raise after all output was written; empty if nothing
            failed.
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
        """Add the result of a part of the computation; its step and failure are ignored."""
        self.metrics = {**self.metrics, **other.metrics}
        self.tables = {**self.tables, **other.tables}
        self.unprinted = {**self.unprinted, **other.unprinted}
        self.lists = {**self.lists, **other.lists}
        self.figures = [*self.figures, *other.figures]
        self.artifacts = [*self.artifacts, *other.artifacts]
        self.lines = [*self.lines, *other.lines]

    def include_unless_refused(self, consequence: str, compute: Callable[[], Result]) -> bool:
        """Add what a part of the computation finds, unless its input is wrong.

        Args:
            consequence: What is missing then, for the warning.
            compute: Computes the part.

        Returns:
            Whether the part was added.
        """
        try:
            self.include(compute())
        except InputError as error:
            log.warning("%s: %s", consequence, one_line(error))
            return False
        return True

    def publish(self, run: RunContext, spec: DataSpec | None = None) -> None:
        """Write, log and print the result.

        Args:
            run: The run.
            spec: Facts of the classifier's data, if the run has one.

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
        verdict = read_json_object(run.path / "verdict.json", run.path)
        log_description(run.loggers, spec, str(verdict.get("verdict") or ""))
        closing = self._closing_lines(run.path, verdict.get("line"))
        for line in (*(line for line in self.lines if line not in closing), *closing):
            print(line)
        if self.failure:
            raise RuntimeError(self.failure)

    def _closing_lines(self, path: Path, verdict: object) -> list[str]:
        """Return what the images are, where the picture is, and the command for the report."""
        return [
            *([printable(str(verdict))] if verdict else []),
            *(f"picture: {figure.path}" for figure in self.figures[:1]),
            f"report: netinv report {shlex.quote(str(path))}",
        ]
