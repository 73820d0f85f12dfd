"""What one run's directory holds, as a page shows it: plain dataclasses, read from whatever files are there."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from netinv_lightning import metric_names as names
from netinv_lightning.html_report.csv_tables import (
    CellShown,
    PageTable,
    cell,
    page_table,
    read_tables,
)
from netinv_lightning.html_report.curves import Chart, read_charts
from netinv_lightning.html_report.files import Folder, flattened
from netinv_lightning.html_report.pictures import Picture
from netinv_lightning.html_report.run_figures import Section, read_frames, read_sections
from netinv_lightning.runs.run_directory import written_to
from netinv_lightning.runs.tables import Cell, Table

HEADLINES = (
    names.INVERSION_ACCURACY, names.INVERSION_ACCURACY_HOT, names.TRANSFER_ACCURACY, names.TRANSFER_CEILING,
    names.INTRA_CLASS_COSINE, names.VENDI, names.STEPS_TO_95, names.TARGET_REACHED, names.TARGET_CLOSED,
    names.CLASSIFIER_TEST_ACCURACY, names.OOD_MEAN_AUROC, names.RECONSTRUCTION_AUC, names.STUDENT_ACCURACY, names.COUNTERFEIT_SUCCESS,
    names.FINETUNE_ACCURACY, names.CLUSTERS,
)  # fmt: skip
"""What is told first of a summary, as far as it is there."""

LOG_LINES = 60
MOST_FILES = 5_000
"""Files of a run that are listed."""
_OURS = ("run.py", "netinv", "netinv.exe", "__main__.py")


@dataclass
class Outcome:
    """How a run went: `status.json`, `config.yaml`, `summary.json`.

    Attributes:
        state: `done`, `failed`, `refused`, `running`, `killed`, or `not run`.
        error: One line; empty where there was none.
        seconds: That it took; None where it is not known.
        best_metric: By which a sweep compares it; None where it is not known.
        config: Nested, as in the file.
        metrics: The summary: metric name to number.
    """

    state: str
    error: str
    seconds: float | None
    best_metric: float | None
    wandb_run_id: str | None
    config: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.config.get("name") or "")


@dataclass
class Run:
    """All that a page shows of one run."""

    path: Path
    outcome: Outcome
    facts: list[tuple[str, CellShown]]
    command: str
    command_note: str
    verdict: dict[str, Any]
    headlines: list[tuple[str, CellShown]]
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


def is_run(path: Path) -> bool:
    """Whether a run began there."""
    return (path / "status.json").is_file() or (path / "config.yaml").is_file()


def read_run(path: Path, overrides: Sequence[str] | None = None) -> Run:
    """Reads a run's directory; what is damaged is noted in `problems`, the rest is there.

    Args:
        path: The directory.
        overrides: Of the job of a sweep that the run is; by default what its command said.
    """
    folder = Folder(path)
    outcome = read_outcome(folder)
    environment = folder.json("environment.json")
    command, note = command_of(environment, overrides)
    frames, left_out = read_frames(folder)
    text = dict(_texts(folder))
    log = folder.shortened("run.log") or ""
    ended_badly = outcome.state in ("failed", "killed")
    folded = [
        ("config.yaml", folder.shortened("config.yaml") or ""),
        ("run.log", "" if ended_badly else log),
    ]
    return Run(
        path=path,
        outcome=outcome,
        facts=_facts(folder, outcome, environment),
        command=command,
        command_note=note,
        verdict=_verdict(folder),
        headlines=[
            (name, cell(outcome.metrics[name])) for name in HEADLINES if name in outcome.metrics
        ],
        sections=read_sections(folder),
        frames=frames,
        frames_left_out=left_out,
        charts=read_charts(folder),
        numbers=_numbers(outcome.metrics),
        tables=[*_card(folder), *read_tables(folder)],
        texts=list(text.items()),
        folded_texts=[(name, content) for name, content in folded if content.strip()],
        log_end="\n".join(log.splitlines()[-LOG_LINES:]) if ended_badly else "",
        files=_files(path),
        problems=folder.problems,
    )


def read_outcome(folder: Folder) -> Outcome:
    """How a run went; each file of it may be missing."""
    status = folder.json("status.json")
    state = str(status.get("state") or "not run")
    if state == "running" and not written_to(folder.path):
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
    )


def command_of(
    environment: Mapping[str, Any], overrides: Sequence[str] | None = None
) -> tuple[str, str]:
    """The command that makes a run again, to be pasted into a shell, and a note about it; both empty where none is known.

    Args:
        environment: Of the run.
        overrides: Of the job of a sweep; its process's own command would start the whole sweep again.
    """
    words = environment.get("command")
    if overrides is not None:
        return shlex.join(["netinv", *overrides]), "one job of a sweep"
    if not isinstance(words, list) or not words or Path(str(words[0])).name not in _OURS:
        return "", ""
    given = [
        str(word) for word in words[1:] if not str(word).startswith("hydra.run.dir=")
    ]  # it holds this run already
    note = (
        "the command that continued the run"
        if any(word.startswith("resume=") for word in given)
        else ""
    )
    return shlex.join(["netinv", *given]), note


def number(value: Any) -> float | None:
    """A finite number; None for whatever else a file holds."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def duration(seconds: float) -> str:
    """`42.5 s`, `4 min 26 s`, `3 h 7 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _facts(
    folder: Folder, outcome: Outcome, environment: Mapping[str, Any]
) -> list[tuple[str, CellShown]]:
    config = outcome.config
    inverts = (folder.path / "figures" / "grid.png").is_file()
    generators = config.get("n_generators")
    facts: dict[str, Any] = {
        "name": outcome.name or None,
        "application": _at(config, "application", "name"),
        "data": _at(config, "data", "name"),
        "classifier": _classifier(config.get("classifier")),
        "method": _at(config, "method", "name") if inverts else None,
        "conditioning": _conditioning(config) if inverts else None,
        "generators": generators if inverts and generators != 1 else None,
        "seed": config.get("seed"),
        "state": outcome.state,
        "took": None if outcome.seconds is None else duration(outcome.seconds),
        "directory": str(folder.path),
        "W&B run": outcome.wandb_run_id,
        "device": environment.get("device"),
        "code": _code(environment),
        "versions": _versions(environment),
    }
    return [(name, cell(value)) for name, value in facts.items() if value is not None]


def _at(config: Mapping[str, Any], *keys: str) -> Any:
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _conditioning(config: Mapping[str, Any]) -> str | None:
    mode, vectors = _at(config, "conditioning", "mode"), _at(config, "conditioning", "vectors")
    return f"{mode}, {vectors} vectors" if mode and vectors else mode


def _classifier(classifier: Any) -> str | None:
    if not isinstance(classifier, Mapping):
        return None
    if classifier.get("zoo"):
        return f"{classifier['zoo']} (zoo)"
    network = classifier.get("network") or {}
    network = (
        network.get("_target_") or network.get("name") if isinstance(network, Mapping) else network
    )
    where = "trained by the run" if classifier.get("train") else classifier.get("path")
    return ", ".join(str(part) for part in (network, where) if part) or None


def _code(environment: Mapping[str, Any]) -> str | None:
    sha = environment.get("git_sha")
    return (
        f"{str(sha)[:12]}{', with changes that are not committed' if environment.get('git_dirty') else ''}"
        if sha
        else None
    )


def _versions(environment: Mapping[str, Any]) -> str | None:
    versions = environment.get("versions")
    known = (
        [f"{name} {version}" for name, version in versions.items() if version]
        if isinstance(versions, Mapping)
        else []
    )
    python = [f"python {environment['python']}"] if environment.get("python") else []
    return ", ".join([*python, *known]) or None


def _verdict(folder: Folder) -> dict[str, Any]:
    """`verdict.json`, or empty where there is none or it is not as `evaluation/report.py` writes it."""
    verdict = folder.json("verdict.json")
    if not verdict:
        return {}
    try:
        evidence = [
            [
                rung["question"],
                "yes" if rung["passed"] else "no",
                rung["value"],
                rung["threshold"],
                rung["margin"],
                rung["metric"],
            ]
            for rung in verdict["evidence"]
        ]
        return {
            "name": str(verdict["verdict"]),
            "meaning": str(verdict["line"])
            .removeprefix(f"verdict: {verdict['verdict']}: ")
            .partition(" (")[0],
            "evidence": page_table(
                Table(
                    "Evidence",
                    ["question", "answer", "value", "threshold", "margin", "metric"],
                    evidence,
                )
            ),
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


def _numbers(metrics: Mapping[str, Any]) -> list[PageTable]:
    """The summary, a table for each prefix of the metrics' names."""
    groups: dict[str, list[list[Any]]] = {}
    for name, value in metrics.items():
        prefix, _, rest = name.partition("/")
        groups.setdefault(prefix if rest else "", []).append([rest or name, value])
    tables = [
        Table(prefix or "other", ["metric", "value"], rows) for prefix, rows in groups.items()
    ]
    return [page_table(table) for table in sorted(tables, key=lambda table: len(table.rows))]


def _card(folder: Folder) -> list[PageTable]:
    """The card of a classifier that the run trained."""
    rows = list(flattened(folder.json("classifier.json")))
    return (
        [page_table(Table("Card of the trained classifier", ["fact", "value"], rows), folded=True)]
        if rows
        else []
    )


def _texts(folder: Folder) -> Iterator[tuple[str, str]]:
    """What a run tells in words: text files, and Markdown that is not a table's."""
    for path in sorted([*folder.path.glob("*.txt"), *folder.path.glob("*.md")]):
        if path.suffix == ".md" and path.with_suffix(".csv").is_file():
            continue
        if text := folder.shortened(path.name):
            yield path.name, text


def _files(path: Path) -> PageTable:
    own = (file for file in path.rglob("*") if not file.is_symlink() and file.is_file())
    found = list(
        islice(
            (file for file in own if not file.name.startswith(("report.html", "."))), MOST_FILES + 1
        )
    )
    rows: list[list[Cell]] = [
        [str(file.relative_to(path)), file.stat().st_size / 1024]
        for file in sorted(found[:MOST_FILES])
    ]
    notes = [f"there are more than {MOST_FILES}"] if len(found) > MOST_FILES else []
    return page_table(Table("Files", ["file", "KB"], rows, notes))
