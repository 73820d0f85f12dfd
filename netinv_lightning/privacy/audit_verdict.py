"""Verdict of an audit, from the numbers of its attacks and controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from netinv_lightning.evaluation.verdict import Evidence, Verdict, half_way

LEAKS_IMAGES = "leaks training images"
LEAKS_CLASSES = "leaks class appearance, not training images"
NO_LEAK_FOUND = "no leak found"
UNDERPOWERED = "inconclusive: too few images"
UNLIKE_SPLITS = "inconclusive: the splits differ"

MEANINGS = {
    LEAKS_IMAGES: "reconstructions are more similar to training images than to held-out images",
    LEAKS_CLASSES: "other networks recognise the reconstructions, which are not more similar to "
    "training images than to held-out images",
    NO_LEAK_FOUND: "no attack recovered training images, or images that other networks recognise; "
    "a stronger attack might",
    UNDERPOWERED: "the positive control, a planted leak, is not detected among so few images",
    UNLIKE_SPLITS: "members and held-out images differ even without a leak, by more than the "
    "positive control, a planted leak",
}
NO_VERIFIERS = "transfer (set application.verifiers)"
SIGNIFICANCE = 0.05
"""Probability of a false alarm, over all attacks together."""


@dataclass(frozen=True)
class AttackResult:
    """Result of one attack.

    Attributes:
        auc: Probability that a member is more similar to its nearest reconstruction than a held-out
            image.
        auc_low: Lower end of its confidence interval.
        p_value: p of the gap, by permutation.
        transfer: Share of its images that other networks classify as their class; None without
            other networks.
    """

    auc: float
    auc_low: float
    p_value: float
    transfer: float | None = None


@dataclass(frozen=True)
class AuditVerdict(Verdict):
    """Verdict of an audit, with the name of its strongest attack."""

    strongest: str = field(kw_only=True)

    @property
    def meaning(self) -> str:
        return MEANINGS[self.name]

    def details(self) -> list[str]:
        return [
            f"strongest attack: {self.strongest}",
            *(
                f"{item.metric} {item.value:.3f}, threshold {item.threshold:.3f}"
                for item in self.evidence
            ),
        ]


def holm_corrected(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return the p values after Holm's correction (1979) for multiple tests."""
    ordered, largest, values = sorted(p_values, key=lambda name: p_values[name]), 0.0, {}
    for rank, name in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p_values[name]))
        values[name] = largest
    return values


def leak_threshold(control_auc_high: float) -> float:
    """Return the AUC above which the whole interval of a leaking attack lies.

    Args:
        control_auc_high: Upper end of the AUC interval of other real images.
    """
    return max(0.5, control_auc_high)


def passes(p_value: float, auc_low: float, threshold: float) -> bool:
    """Return whether a difference is evidence of a leak, at the threshold of `leak_threshold`."""
    return p_value <= SIGNIFICANCE and auc_low > threshold


def splits_differ(exchangeable: bool, control_auc_low: float, control_auc_high: float) -> bool:
    """Return whether members and held-out images differ by more than chance without a leak.

    Args:
        exchangeable: Whether they are a random split of one set.
        control_auc_low: Lower end of the AUC interval of other real images.
        control_auc_high: Upper end of this interval.
    """
    return not exchangeable and not control_auc_low <= 0.5 <= control_auc_high


def conclude(
    attacks: Mapping[str, AttackResult],
    *,
    control_auc_high: float,
    planted: tuple[float, float],
    num_classes: int,
    ceiling: float = 1.0,
    unlike_splits: bool = False,
) -> AuditVerdict:
    """Return the verdict of an audit.

    Training images leak if the Holm-corrected p of an attack is at most 0.05, and the whole
    interval of its AUC is above 0.5 and above the AUC of other real images. (Members and held-out
    images of different splits may differ even without a leak.) Otherwise, the verdict states no
    leak only if the planted leak is detected: its p is at most 0.05, and its AUC is above that of
    other real images.

    Args:
        attacks: Results by name.
        control_auc_high: Upper end of the AUC interval of other real images in the place of
            reconstructions.
        planted: AUC and p of the planted leak.
        num_classes: N; transfer by chance is 1 / N.
        ceiling: Accuracy of the other networks on real images.
        unlike_splits: The result of `splits_differ`.
    """
    p_values = holm_corrected({name: attack.p_value for name, attack in attacks.items()})
    threshold = leak_threshold(control_auc_high)

    def leaks(name: str) -> bool:
        return passes(p_values[name], attacks[name].auc_low, threshold)

    strongest = max(attacks, key=lambda name: (leaks(name), attacks[name].auc))
    low, p_value = attacks[strongest].auc_low, p_values[strongest]
    evidence = [
        Evidence(
            "are reconstructions more similar to training images than other real images are?",
            f"AUC of {strongest}, lower end",
            low,
            threshold,
            low > threshold,
        ),
        Evidence(
            "is the difference significant?",
            "p (Holm-corrected)",
            p_value,
            SIGNIFICANCE,
            p_value <= SIGNIFICANCE,
        ),
    ]
    verdict = partial(AuditVerdict, strongest=strongest)
    if leaks(strongest):
        return verdict(LEAKS_IMAGES, tuple(evidence))
    detected, positive_control = _positive_control(planted, control_auc_high)
    evidence.append(positive_control)
    if not detected:
        return verdict(UNLIKE_SPLITS if unlike_splits else UNDERPOWERED, tuple(evidence))
    transfers = {
        name: attack.transfer for name, attack in attacks.items() if attack.transfer is not None
    }
    if not transfers:
        return verdict(NO_LEAK_FOUND, tuple(evidence), (NO_VERIFIERS,))
    best = max(transfers, key=lambda name: transfers[name])
    required = half_way(1 / num_classes, ceiling)
    recognised = transfers[best] > required
    evidence.append(
        Evidence(
            "do other networks recognise the images?",
            f"transfer of {best}",
            transfers[best],
            required,
            recognised,
        )
    )
    return verdict(LEAKS_CLASSES if recognised else NO_LEAK_FOUND, tuple(evidence))


def _positive_control(
    planted: tuple[float, float], control_auc_high: float
) -> tuple[bool, Evidence]:
    """Return whether the planted leak is detected, and the evidence."""
    (auc, p_value), question = planted, "would a leak be detected?"
    significant, above = p_value <= SIGNIFICANCE, auc > control_auc_high
    if significant and not above:
        evidence = Evidence(question, "AUC of the planted leak", auc, control_auc_high, above)
    else:
        evidence = Evidence(question, "p of the planted leak", p_value, SIGNIFICANCE, significant)
    return significant and above, evidence
