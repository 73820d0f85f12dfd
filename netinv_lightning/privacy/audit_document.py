"""The audit in one document for people, `audit.md`, and one file for programs, `audit.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from netinv_lightning import __version__
from netinv_lightning.privacy.audit_findings import SPLITS_DIFFER, AuditFindings
from netinv_lightning.privacy.detection_power import detectable_share, power_line
from netinv_lightning.runs.tables import Table, markdown


def audit_document(
    found: AuditFindings, table: Table, sections: Sequence[Table], figures: Mapping[str, str]
) -> str:
    """Return the text of `audit.md`.

    Args:
        found: The findings.
        table: The table of the attacks and controls, which comes first.
        sections: Further tables, each under its title.
        figures: Path of each figure from the run directory, by its caption.
    """
    conclusion = found.conclusion
    title, _, rest = markdown(table).partition("\n")
    line = conclusion.line.removeprefix("verdict: ")
    pictures = [f"![{caption}]({path})" for caption, path in figures.items()]
    parts = [
        f"{title}\n\n**Verdict: {line}.**\n",
        rest.lstrip(),
        *(f"#{markdown(section)}" for section in sections),
        "\n".join(["## Figures", "", *pictures]) + "\n",
    ]
    return "\n".join(parts)


def assumptions(found: AuditFindings, errors: Mapping[str, str]) -> Table:
    """What the verdict rests on, in sentences.

    Args:
        found: The findings.
        errors: The error of each attack that failed.
    """
    real = found.real
    tried = ", ".join(found.rows)
    sentences = [
        f"The {len(real.members.labels_n)} members are images that the classifier was trained on, "
        "according to its model card or to application.trained_on.",
        f"The {len(real.held_out.labels_n)} held-out images are {real.source}. "
        + (
            "Members and held-out images are a random split of one set, so p is exact."
            if real.exchangeable
            else "They are another split than the members, which may differ without a leak; the "
            "verdict therefore also requires a higher AUC than that of other real images."
        ),
        *([f"{SPLITS_DIFFER[:1].upper()}{SPLITS_DIFFER[1:]}."] if found.splits_differ else []),
        f"Attacks tried: {tried}. They know the classifier and its classes, not its training "
        "images. A stronger attack may find a leak that these did not find.",
        power_line(found.powers).removeprefix("power: ").capitalize() + ".",
        "Images are compared pixel by pixel, by normalised cross-correlation. A reconstruction "
        "that is shifted or mirrored counts as different.",
        "Membership inference uses the losses of this classifier only; attacks with shadow "
        "networks are stronger (application.shadow)."
        if found.shadows is None
        else "Membership inference: the attacker knows the architecture and the recipe of the "
        f"training, and trains {found.shadows.networks} shadow networks.",
        "The audit was run once, with one seed.",
        *(f"The attack {name} failed: {error}" for name, error in errors.items()),
    ]
    return Table("Assumptions and limits", [], [], sentences)


def audit_record(found: AuditFindings, errors: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of `audit.json`.

    `leak` is true if the verdict is that training images leak; `verdict` has the other cases.

    Args:
        found: The findings.
        errors: The error of each attack that failed.
    """
    real, conclusion = found.real, found.conclusion
    exposed = found.exposure
    return {
        "netinv_lightning": __version__,
        "leak": found.leaks,
        **conclusion.as_dict(),
        "strongest_attack": conclusion.strongest,
        "attacks": {
            name: {**row, "transfer": found.attacked[name].transfer}
            for name, row in found.rows.items()
        },
        "failed_attacks": dict(errors),
        "controls": found.controls,
        "power": [{**asdict(power), "power": power.power} for power in found.powers],
        "detectable_share": detectable_share(found.powers),
        "membership": found.membership.metrics()
        | ({} if found.shadows is None else found.shadows.metrics()),
        "capacity": {**asdict(found.capacity), "ratio": found.capacity.ratio},
        "members": len(real.members.labels_n),
        "held_out": len(real.held_out.labels_n),
        "held_out_source": real.source,
        "exchangeable": real.exchangeable,
        "most_exposed": exposed.index_m[:10].tolist(),
        "assumptions": list(assumptions(found, errors).notes),
    }
