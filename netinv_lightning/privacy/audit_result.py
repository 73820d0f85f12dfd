"""What `application=audit` finds: verdict, tables, figures, and the document that contains them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from netinv_lightning.privacy.audit_document import assumptions, audit_document, audit_record
from netinv_lightning.privacy.audit_findings import AuditFindings
from netinv_lightning.privacy.detection_power import power_line, power_table
from netinv_lightning.privacy.reconstruction_figures import audit_figure, exposed_figure
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
    conclusion, class_names = found.conclusion, found.classifier.spec.class_names
    write_json(run.path / "verdict.json", conclusion.as_dict())
    write_json(run.path / "audit.json", audit_record(found, errors))
    figure = audit_figure(found.intervals(), list(found.rows), run.figures / "audit.png", title)
    exposed = exposed_figure(
        found.exposure,
        class_names,
        run.figures / "exposed.png",
        "the training images that the reconstructions expose most",
    )
    figures = {conclusion.line: figure, "most exposed training images": exposed}
    pairs = found.finished[conclusion.strongest] / "figures" / "best_pairs.png"
    copied = run.figures / pairs.name
    if pairs.is_file():
        shutil.copyfile(pairs, copied)
    pictures = {"attacks and controls": figure, "most exposed training images": exposed}
    if copied.is_file():
        pictures["best pairs of the strongest attack"] = copied
    sections = {
        "membership": found.membership.table(),
        **({} if found.shadows is None else {"shadow": found.shadows.table()}),
        "power": power_table(found.powers),
        "exposure": found.exposure.table(class_names),
        "assumptions": assumptions(found, errors),
    }
    table = found.table(title, errors)
    table.document = audit_document(
        found,
        table,
        list(sections.values()),
        {caption: str(path.relative_to(run.path)) for caption, path in pictures.items()},
    )
    return Result(
        found.metrics(),
        tables={"audit": table},
        unprinted=sections,
        figures=[Figure(path, caption) for caption, path in figures.items()],
        lines=[
            f"all attacks ({', '.join(found.finished)}):",
            found.membership.line(),
            power_line(found.powers),
            conclusion.line,
        ],
    )
