"""Contents of the report of one run: plain dataclasses, read from the files that exist."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from netinv_lightning.html_report.csv_tables import (
    CellShown,
    PageTable,
    cell,
    page_table,
    read_tables,
)
from netinv_lightning.html_report.curves import Chart, read_charts
from netinv_lightning.html_report.files import Folder, flattened
from netinv_lightning.html_report.metric_tables import (
    Headline,
    described,
    headlines,
    remaining_metrics,
)
from netinv_lightning.html_report.outcome import Outcome, read_outcome
from netinv_lightning.html_report.pictures import Picture
from netinv_lightning.html_report.run_facts import command_of, read_facts
from netinv_lightning.html_report.run_figures import Section, read_frames, read_sections
from netinv_lightning.runs.tables import Cell, Table

LOG_LINES = 60
"""Lines of the log that the report of a failed run shows."""
MOST_FILES = 5_000
"""Largest number of files that are listed."""


@dataclass
class Run:
    """Contents of the report of one run."""

    path: Path
    outcome: Outcome
    facts: list[tuple[str, CellShown]]
    command: str
    command_note: str
    verdict: dict[str, Any]
    headlines: list[Headline]
    sections: list[Section]
    frames: list[tuple[int, Picture]]
    frames_left_out: int
    charts: list[Chart]
    numbers: list[PageTable]
    tables: list[PageTable]
    texts: list[tuple[str, str]]
    folded_texts: list[tuple[str, str]]
    log_end: str
    files: PageTable
    problems: list[str] = field(default_factory=list)


def read_run(path: Path, overrides: Sequence[str] | None = None) -> Run:
    """Read a run directory. Damaged files are listed in `problems`; the rest is read.

    Args:
        path: The directory.
        overrides: Overrides of the job, if the run is a job of a sweep.
    """
    folder = Folder(path)
    outcome = read_outcome(folder)
    environment = folder.json("environment.json")
    command, note = command_of(environment, overrides)
    frames, left_out = read_frames(folder)
    texts = dict(_texts(folder))
    tables = [described(table) for table in (*_card(folder), *read_tables(folder))]
    log = folder.shortened("run.log") or ""
    ended_badly = outcome.state in ("failed", "killed")
    folded = [
        ("config.yaml", folder.shortened("config.yaml") or ""),
        ("run.log", "" if ended_badly else log),
    ]
    return Run(
        path=path,
        outcome=outcome,
        facts=read_facts(folder, outcome, environment),
        command=command,
        command_note=note,
        verdict=_verdict(folder),
        headlines=headlines(outcome.metrics),
        sections=read_sections(folder),
        frames=frames,
        frames_left_out=left_out,
        charts=read_charts(folder),
        numbers=remaining_metrics(outcome.metrics, tables),
        tables=tables,
        texts=list(texts.items()),
        folded_texts=[(name, content) for name, content in folded if content.strip()],
        log_end="\n".join(log.splitlines()[-LOG_LINES:]) if ended_badly else "",
        files=_files(path),
        problems=folder.problems,
    )


def _verdict(folder: Folder) -> dict[str, Any]:
    """Contents of `verdict.json`; empty if it is missing or damaged."""
    verdict = folder.json("verdict.json")
    if not verdict:
        return {}
    try:
        name, line = str(verdict["verdict"]), str(verdict["line"])
        evidence = [
            [
                item["question"],
                "yes" if item["passed"] else "no",
                item["value"],
                item["threshold"],
                item["margin"],
                item["metric"],
            ]
            for item in verdict["evidence"]
        ]
        columns = ["question", "answer", "value", "threshold", "margin", "metric"]
        return {
            "name": name,
            "meaning": line.removeprefix(f"verdict: {name}: ").partition(" (")[0],
            "evidence": page_table(Table("Questions and answers", columns, evidence)),
            "not_tested": [str(what) for what in verdict.get("not_tested", ())],
            "diagnosed": "diagnosis" in verdict,
            "diagnosis": [
                {
                    "failure": str(finding["failure"]),
                    "meaning": str(finding["meaning"]),
                    "metric": str(finding["metric"]),
                    "value": cell(finding["value"]),
                    "threshold": cell(finding["threshold"]),
                    "settings": [str(setting) for setting in finding["settings"]],
                }
                for finding in verdict.get("diagnosis", ())
            ],
        }
    except (KeyError, TypeError) as error:
        folder.note("verdict.json", f"is damaged ({type(error).__name__}: {error})")
        return {}


def _card(folder: Folder) -> list[PageTable]:
    """The model card of a classifier that the run trained."""
    rows = list(flattened(folder.json("classifier.json")))
    table = Table("Model card of the trained classifier", ["field", "value"], rows)
    return [page_table(table, folded=True)] if rows else []


def _texts(folder: Folder) -> Iterator[tuple[str, str]]:
    """Text files, and Markdown files that do not belong to a table."""
    for path in sorted([*folder.path.glob("*.txt"), *folder.path.glob("*.md")]):
        if path.suffix == ".md" and path.with_suffix(".csv").is_file():
            continue
        if text := folder.shortened(path.name):
            yield path.name, text


def _files(path: Path) -> PageTable:
    found = (
        file
        for file in path.rglob("*")
        if not file.is_symlink()
        and file.is_file()
        and not file.name.startswith(("report.html", "."))
    )
    listed = list(islice(found, MOST_FILES + 1))
    rows: list[list[Cell]] = [
        [str(file.relative_to(path)), file.stat().st_size / 1024]
        for file in sorted(listed[:MOST_FILES])
    ]
    notes = [f"only {MOST_FILES} files are listed"] if len(listed) > MOST_FILES else []
    return page_table(Table("Files", ["file", "KB"], rows, notes))
