"""Write and print a verdict with its diagnosis."""

from __future__ import annotations

from pathlib import Path

from netinv_lightning.evaluation.diagnosis import Finding
from netinv_lightning.evaluation.verdict import Verdict
from netinv_lightning.runs.file_writing import write_json
from netinv_lightning.runs.tables import Cell, Table, print_table


def write_verdict(directory: Path, verdict: Verdict, findings: list[Finding]) -> None:
    """Write `verdict.json`, and the lines of the verdict and the findings into `run.log`."""
    content = verdict.as_dict() | {"diagnosis": [finding.__dict__ for finding in findings]}
    write_json(directory / "verdict.json", content)
    with (directory / "run.log").open("a") as log:
        log.writelines(
            f"{line}\n" for line in (verdict.line, *(finding.line for finding in findings))
        )


def print_verdict(verdict: Verdict, findings: list[Finding], followed: bool) -> None:
    """Print the evidence and the diagnosis. The verdict is printed at the end of the run."""
    rows: list[list[Cell]] = [
        [
            item.question,
            item.metric,
            item.value,
            item.threshold,
            item.margin,
            "yes" if item.passed else "no",
        ]
        for item in verdict.evidence
    ]
    if not followed:
        rows += [[f"not tested: {what}", "", None, None, None, ""] for what in verdict.not_tested]
    print_table(Table("", ["question", "metric", "value", "threshold", "margin", "answer"], rows))
    for finding in findings:
        print(finding.line)
