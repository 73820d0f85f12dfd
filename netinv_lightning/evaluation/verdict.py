"""Judge the images of an inversion by their metrics; all functions are pure.

Up to three questions are asked in order. Each compares one number with one threshold, and the
first "no" decides the verdict:

    does the inverted classifier agree with the labels?              no: no inversion
    do networks that the inversion did not use agree?                no: adversarial noise
    are the images nearer to training images than to other ones?     no: class-typical
                                                                     yes: training-like

The first two thresholds lie half way between chance and the highest possible value: 1 for the
inverted classifier, and the accuracy on real images for the other networks. If a question cannot
be tested, later questions are not asked, and the verdict lists what was not tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from netinv_lightning import metric_names as names

NO_INVERSION = "no inversion"
TRANSFER_NOT_TESTED = "inverted; transfer not tested"
ADVERSARIAL = "adversarial noise"
CLASS_TYPICAL = "class-typical"
TRAINING_LIKE = "training-like"

MEANINGS = {
    NO_INVERSION: "the classifier does not assign the images to the requested classes",
    TRANSFER_NOT_TESTED: "the classifier assigns the images to the requested classes; "
    "no other network classified them",
    ADVERSARIAL: "the classifier assigns the images to the requested classes, "
    "but other networks do not",
    CLASS_TYPICAL: "other networks recognise the classes",
    TRAINING_LIKE: "other networks recognise the classes, "
    "and the images are nearer to training images than to other real images",
}
NEARNESS_UNTESTED = (
    "nearness to training images (needs the real data: set measure=full, or run "
    "application=reconstruct)"
)
TRANSFER_UNTESTED = "agreement of other networks (set application.verifiers)"

MEMORISATION_THRESHOLD = 0.01
"""Threshold of the difference in correlation. It is above 0 because training and test images of one
source differ slightly: on MNIST, by 0.001 for the nearest neighbours of uniform noise."""
SIGNIFICANCE = 0.05
"""Largest p value (random splits of the real images) at which nearness counts as significant."""
LEAST_RANGE = 0.05
"""Smallest distance of the transfer threshold from chance at which verifiers can decide."""
MOST_CLASSES = 5
"""Largest number of classes that a line lists by name."""


@dataclass(frozen=True)
class Evidence:
    """One question: `passed` if the value is above the threshold (a p value: at or below it)."""

    question: str
    metric: str
    value: float
    threshold: float
    passed: bool

    @property
    def margin(self) -> float:
        return self.value - self.threshold


class ClassTransfer(NamedTuple):
    """Share of the images of one class that one verifier assigns to it."""

    label: str
    verifier: str
    value: float

    def __str__(self) -> str:
        return f"{self.label} by {self.verifier} ({self.value:.2f})"


@dataclass(frozen=True)
class Verdict:
    """Name of the verdict, its evidence in the order of the questions, and the untested parts.

    Attributes:
        unrecognised: Classes that a verifier does not recognise although the images transfer,
            smallest share first.
        shortfall: Where the transfer falls short of the ceiling, in words.
        chose: Verifiers on which the defaults of the package were chosen, so that their agreement
            is an optimistic estimate.
    """

    name: str
    evidence: tuple[Evidence, ...]
    not_tested: tuple[str, ...] = ()
    unrecognised: tuple[ClassTransfer, ...] = ()
    shortfall: tuple[str, ...] = ()
    chose: tuple[str, ...] = ()

    @property
    def meaning(self) -> str:
        return MEANINGS[self.name]

    def details(self) -> list[str]:
        """Describe the evidence, one text per item."""
        return [
            f"{item.metric} {item.value:.3f}, {abs(item.margin):.3f} "
            f"{'above' if item.margin > 0 else 'below'} {item.threshold:.3f}"
            for item in self.evidence
        ]

    @property
    def line(self) -> str:
        facts = "; ".join([*self.details(), *self.shortfall])
        lost = f"; not recognised: {listed(self.unrecognised)}" if self.unrecognised else ""
        untested = f"; not tested: {'; '.join(self.not_tested)}" if self.not_tested else ""
        chose = f"; defaults were chosen on {', '.join(self.chose)}" if self.chose else ""
        return f"verdict: {self.name}: {self.meaning} ({facts}){lost}{untested}{chose}"

    def as_dict(self) -> dict[str, Any]:
        evidence = [{**asdict(item), "margin": item.margin} for item in self.evidence]
        return {
            "verdict": self.name,
            "line": self.line,
            "evidence": evidence,
            "not_tested": list(self.not_tested),
            "unrecognised": [item._asdict() for item in self.unrecognised],
            "shortfall": list(self.shortfall),
            "chose": list(self.chose),
        }


def half_way(chance: float, most: float) -> float:
    """Return the threshold between chance and the highest possible value."""
    return (chance + most) / 2


def judge(metrics: Mapping[str, float], num_classes: int, ceiling: float | None = None) -> Verdict:
    """Return the verdict.

    Args:
        metrics: Metrics of the inverted images: inversion accuracy and, if they were measured,
            transfer accuracy and memorisation.
        num_classes: N; chance is 1 / N.
        ceiling: Mean accuracy of the verifiers on real test images, in [0, 1]; None if it is
            unknown, which counts as 1.
    """
    chance, most = 1 / num_classes, 1.0 if ceiling is None else ceiling
    agrees = _compare(
        "does the inverted classifier agree?",
        metrics,
        names.INVERSION_ACCURACY,
        half_way(chance, 1.0),
    )
    if not agrees.passed:
        return Verdict(NO_INVERSION, (agrees,))
    if names.TRANSFER_ACCURACY not in metrics:
        untested = (TRANSFER_UNTESTED, NEARNESS_UNTESTED)
        return Verdict(TRANSFER_NOT_TESTED, (agrees,), untested)
    if half_way(chance, most) <= chance + LEAST_RANGE:
        too_weak = (
            f"agreement of other networks (the verifiers reach {most:.2f} on real images; "
            f"chance is {chance:.2f})"
        )
        return Verdict(TRANSFER_NOT_TESTED, (agrees,), (too_weak, NEARNESS_UNTESTED))
    transfers = _compare(
        "do other networks agree?", metrics, names.TRANSFER_ACCURACY, half_way(chance, most)
    )
    if not transfers.passed:
        return Verdict(ADVERSARIAL, (agrees, transfers))
    facts: dict[str, Any] = {
        "unrecognised": unrecognised(metrics, transfers.threshold),
        "shortfall": shortfall(metrics, ceiling),
    }
    if names.MEMORISATION_GAP_LOW not in metrics:
        return Verdict(CLASS_TYPICAL, (agrees, transfers), (NEARNESS_UNTESTED,), **facts)
    nearer = _nearness(metrics)
    name = TRAINING_LIKE if nearer.passed else CLASS_TYPICAL
    return Verdict(name, (agrees, transfers, nearer), **facts)


def unrecognised(metrics: Mapping[str, float], threshold: float) -> tuple[ClassTransfer, ...]:
    """Return the classes of which a verifier recognises the threshold or less, smallest first."""
    prefix = names.class_accuracy("", names.TRANSFER_ACCURACY)
    verifiers = [
        name.removeprefix(f"{names.TRANSFER_ACCURACY}/")
        for name in metrics
        if name.startswith(f"{names.TRANSFER_ACCURACY}/")
    ]
    found = [
        ClassTransfer(name.removeprefix(prefix).removesuffix(f"/{verifier}"), verifier, value)
        for name, value in metrics.items()
        for verifier in verifiers
        if name.startswith(prefix) and name.endswith(f"/{verifier}") and value <= threshold
    ]
    return tuple(sorted(found, key=lambda item: item.value))


def shortfall(metrics: Mapping[str, float], ceiling: float | None) -> tuple[str, ...]:
    """Return the transfer with one-hot vectors, and what soft vectors and one verifier cost.

    Soft vectors request ambiguous images, which real images are not. One-hot vectors do not: what
    is missing there is a weakness of the images, or of one verifier if others recognise them.
    """
    if (hot := metrics.get(names.TRANSFER_ACCURACY_HOT)) is None:
        return ()
    share = f", {hot / ceiling:.2f} of the ceiling" if ceiling else ""
    found = [f"{names.TRANSFER_ACCURACY_HOT} {hot:.3f}{share}"]
    if (cost := hot - metrics[names.TRANSFER_ACCURACY]) > 0:
        found.append(f"ambiguous vectors cost {cost:.3f}")
    prefix = f"{names.TRANSFER_ACCURACY_HOT}/"
    of_each = {n.removeprefix(prefix): v for n, v in metrics.items() if n.startswith(prefix)}
    if len(of_each) > 1:
        lowest = min(of_each, key=of_each.__getitem__)
        found.append(f"lowest with {lowest} {of_each[lowest]:.3f}")
    return tuple(found)


def listed(items: Sequence[ClassTransfer]) -> str:
    """Return the first classes with their verifiers, and how many more there are."""
    more = len(items) - MOST_CLASSES
    return ", ".join([*map(str, items[:MOST_CLASSES]), *([f"and {more} more"] if more > 0 else [])])


def _nearness(metrics: Mapping[str, float]) -> Evidence:
    """Return the deciding test of nearness.

    It is the test of the p value if only that test fails, and otherwise the test of the interval.
    """
    nearer = _compare(
        "nearer to training images than to other real images?",
        metrics,
        names.MEMORISATION_GAP_LOW,
        MEMORISATION_THRESHOLD,
    )
    p_value = metrics[names.MEMORISATION_GAP_P_VALUE]
    if nearer.passed and p_value > SIGNIFICANCE:
        return Evidence(
            question="nearer than with random splits of the real images?",
            metric=names.MEMORISATION_GAP_P_VALUE,
            value=p_value,
            threshold=SIGNIFICANCE,
            passed=False,
        )
    return nearer


def _compare(
    question: str, metrics: Mapping[str, float], metric: str, threshold: float
) -> Evidence:
    value = metrics[metric]
    return Evidence(question, metric, value, threshold, passed=value > threshold)
