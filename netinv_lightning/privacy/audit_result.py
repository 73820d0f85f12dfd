"""What `application=audit` finds: verdict, table and figures."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from netinv_lightning.privacy.audit_findings import AuditFindings
from netinv_lightning.privacy.reconstruction_figures import audit_figure
from netinv_lightning.runs.file_writing import write_json
from netinv_lightning.tracking.result import Figure, Result
from netinv_lightning.tracking.run_context import RunContext


def audit_result(
    found: AuditFindings, run: RunContext, *, title: str, errors: Mapping[str, str]
) -> Result:
    """Write verdict and figures of an audit; return its result.

    Args:
        found: The findings of the attacks that are done.
        run: The run of the audit.
        title: Title of the table and the figure.
        errors: The error of each attack that failed.
    """
    conclusion = found.conclusion
    write_json(run.path / "verdict.json", conclusion.as_dict())
    figure = audit_figure(found.intervals(), list(found.rows), run.figures / "audit.png", title)
    pairs = found.finished[conclusion.strongest] / "figures" / "best_pairs.png"
    if pairs.is_file():
        shutil.copyfile(pairs, run.figures / pairs.name)
    return Result(
        found.metrics(),
        tables={"audit": found.table(title, errors)},
        figures=[Figure(figure, conclusion.line)],
        lines=[f"all attacks ({', '.join(found.finished)}):", conclusion.line],
    )
