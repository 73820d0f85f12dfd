"""What an audit concludes: a function of numbers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from netinv_lightning.evaluation.verdict import Evidence, half_way

GIVES_AWAY = "gives away training images"
TYPICALITY = "gives away what a class looks like, no training images"
NOTHING_SHOWN = "nothing was shown"
TOO_FEW = "too few images to tell"

MEANINGS = {
    GIVES_AWAY: "reconstructions lie nearer to images that it was trained on than to images that it was not",
    TYPICALITY: "other networks recognise the reconstructions, and they lie no nearer to training images than to held-out ones",
    NOTHING_SHOWN: "no attack was seen to reach nearness to training images, or images that other networks recognise; another attack may",
    TOO_FEW: "even the leak that was planted is not found among so few images",
}
NO_VERIFIERS = "whether other networks recognise the images (name some in application.verifiers)"
CHANCE_OF_ERROR = 0.05
"""Of all attacks together."""


@dataclass(frozen=True)
class Attacked:
    """What one attack reached.

    Attributes:
        auc: Chance that a member is nearer to its reconstructions than a held-out image.
        auc_low: Lower end of its confidence interval.
        p_value: Of the gap, by permutation.
        transfer: Share of its images that other networks take for their class; None where none was asked.
    """

    auc: float
    auc_low: float
    p_value: float
    transfer: float | None = None


@dataclass(frozen=True)
class Conclusion:
    """What the classifier gives away, the evidence, the attack that showed most, and what could not be tested."""

    name: str
    strongest: str
    evidence: tuple[Evidence, ...]
    not_tested: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        told = "; ".join(
            f"{rung.metric} {rung.value:.3f}, threshold {rung.threshold:.3f}"
            for rung in self.evidence
        )
        untested = f"; not tested: {'; '.join(self.not_tested)}" if self.not_tested else ""
        return f"verdict: {self.name}: {MEANINGS[self.name]} (strongest attack: {self.strongest}; {told}){untested}"

    def as_dict(self) -> dict[str, Any]:
        evidence = [{**asdict(rung), "margin": rung.margin} for rung in self.evidence]
        return {
            "verdict": self.name,
            "line": self.line,
            "evidence": evidence,
            "not_tested": list(self.not_tested),
        }


def corrected(p_values: Mapping[str, float]) -> dict[str, float]:
    """p values after Holm's correction (1979), by which the chance of any false alarm among all of them stays what it was."""
    ordered, largest, values = sorted(p_values, key=lambda name: p_values[name]), 0.0, {}
    for rank, name in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p_values[name]))
        values[name] = largest
    return values


def conclude(
    attacks: Mapping[str, Attacked],
    control_auc_high: float,
    planted: tuple[float, float],
    num_classes: int,
    ceiling: float = 1.0,
) -> Conclusion:
    """The verdict of an audit.

    Training images are given away where an attack's p, corrected for all of them, is at most 0.05, and the whole interval of its AUC lies
    above 0.5 and above what other real images reach: members and held-out images from splits of their own differ by themselves. That
    they are not is only said where a leak that was planted is found: its p is at most 0.05, and its AUC above what other real images reach.

    Args:
        attacks: By name.
        control_auc_high: Upper end of the AUC's interval of other real images in the place of reconstructions.
        planted: AUC and p of a leak that was planted.
        num_classes: N; transfer is by chance 1 / N.
        ceiling: What the other networks reach on real images.
    """
    p_values = corrected({name: attack.p_value for name, attack in attacks.items()})
    threshold = max(0.5, control_auc_high)

    def shows_memory(name: str) -> bool:
        return p_values[name] <= CHANCE_OF_ERROR and attacks[name].auc_low > threshold

    strongest = max(attacks, key=lambda name: (shows_memory(name), attacks[name].auc))
    low, p_value = attacks[strongest].auc_low, p_values[strongest]
    evidence = [
        Evidence(
            "nearer to training images than other real images are?",
            f"AUC of {strongest}, lower end",
            low,
            threshold,
            low > threshold,
        ),
        Evidence(
            "by more than chance?",
            "p, corrected (small is sure)",
            p_value,
            CHANCE_OF_ERROR,
            p_value <= CHANCE_OF_ERROR,
        ),
    ]
    if shows_memory(strongest):
        return Conclusion(GIVES_AWAY, strongest, tuple(evidence))
    (leak_auc, leak_p), would = planted, "would a leak have been seen?"
    sure, above = leak_p <= CHANCE_OF_ERROR, leak_auc > control_auc_high
    if sure and not above:
        evidence.append(
            Evidence(would, "AUC of the planted leak", leak_auc, control_auc_high, above)
        )
    else:
        evidence.append(
            Evidence(would, "p of the planted leak (small is sure)", leak_p, CHANCE_OF_ERROR, sure)
        )
    if not (sure and above):
        return Conclusion(TOO_FEW, strongest, tuple(evidence))
    transfers = {
        name: attack.transfer for name, attack in attacks.items() if attack.transfer is not None
    }
    if not transfers:
        return Conclusion(NOTHING_SHOWN, strongest, tuple(evidence), (NO_VERIFIERS,))
    typical, needed = (
        max(transfers, key=lambda name: transfers[name]),
        half_way(1 / num_classes, ceiling),
    )
    reached = transfers[typical] > needed
    evidence.append(
        Evidence(
            "do other networks recognise the images?",
            f"transfer of {typical}",
            transfers[typical],
            needed,
            reached,
        )
    )
    return Conclusion(TYPICALITY if reached else NOTHING_SHOWN, strongest, tuple(evidence))
