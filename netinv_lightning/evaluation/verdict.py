"""What the images of an inversion are, and what went wrong with it: functions of numbers alone.

The verdict is a ladder of three questions, each with one number and the threshold that decides it. Images stand on the
highest rung that they reach:

    does the inverted classifier agree with the labels?          no: no inversion
    do networks that the inversion never saw agree?              no: adversarial noise
    are the images nearer to training images than to others?     no: class-typical          yes: training-like

The first two are passed half way from chance to the most that can be reached: 1 for the inverted classifier, and for the
others what they reach on real images. A rung that cannot be tested ends the ladder, and the verdict says so.

The diagnosis names the failures that the analysis note of the papers foresees (A9-F1 to A9-F4), and two of the
objective's own: terms against each other, and a term that has nothing left to do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from netinv_lightning import metric_names as names

NO_INVERSION = "no inversion"
NOT_TOLD = "inverted, meaning not tested"
ADVERSARIAL = "adversarial noise"
CLASS_TYPICAL = "class-typical"
TRAINING_LIKE = "training-like"

MEANINGS = {
    NO_INVERSION: "the classifier itself does not take the images for what they were made to be",
    NOT_TOLD: "the classifier agrees; no other network was asked",
    ADVERSARIAL: "the classifier agrees, networks that never saw them do not",
    CLASS_TYPICAL: "other networks recognise the classes",
    TRAINING_LIKE: "they show the classes, and are nearer to training images than to other real images",
}
NEARER = 0.01  # correlation; train and test split of one source differ too: the nearest neighbours of pure noise by 0.001 on MNIST
CHANCE_OF_ERROR = (
    0.05  # up to which a nearness that random splits of the references give too counts as nearness
)

COLLAPSED = 0.98  # cosine within a class; real images of the zoo's sets: 0.64 to 0.88
SCATTERED = 0.5
CLASS_LOST = 0.5  # accuracy of one class
OUTWEIGHED = math.log(
    2
)  # nats; equal weights give Q = (P + one-hot) / 2 at most, and KL(P||Q) <= ln 2
SATURATED = 0.02  # left to the floor; identical features give about 1


@dataclass(frozen=True)
class Evidence:
    """One rung: `passed` where the metric's value is above the threshold; where it is a p value, at or below it."""

    question: str
    metric: str
    value: float
    threshold: float
    passed: bool

    @property
    def margin(self) -> float:
        return self.value - self.threshold


@dataclass(frozen=True)
class Verdict:
    """What the images are, the evidence in the order in which it was asked for, and what could not be tested."""

    name: str
    evidence: tuple[Evidence, ...]
    not_tested: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        told = "; ".join(
            f"{rung.metric} {rung.value:.3f}, {abs(rung.margin):.3f} {'above' if rung.margin > 0 else 'below'} {rung.threshold:.3f}"
            for rung in self.evidence
        )
        untested = f"; not tested: {'; '.join(self.not_tested)}" if self.not_tested else ""
        return f"verdict: {self.name}: {MEANINGS[self.name]} ({told}){untested}"

    def as_dict(self) -> dict[str, Any]:
        evidence = [{**asdict(rung), "margin": rung.margin} for rung in self.evidence]
        return {
            "verdict": self.name,
            "line": self.line,
            "evidence": evidence,
            "not_tested": list(self.not_tested),
        }


@dataclass(frozen=True)
class Finding:
    """A failure: the metric that shows it, its value, the threshold that it passed, and settings to try."""

    failure: str
    metric: str
    value: float
    threshold: float
    meaning: str
    settings: tuple[str, ...]

    @property
    def line(self) -> str:
        advice = f"; try {' or '.join(self.settings)}" if self.settings else ""
        return f"diagnosis: {self.failure}: {self.meaning} ({self.metric} {self.value:.3f}, threshold {self.threshold:.3f}){advice}"


def half_way(chance: float, most: float) -> float:
    return (chance + most) / 2


def judge(metrics: Mapping[str, float], num_classes: int, ceiling: float | None = None) -> Verdict:
    """The verdict.

    Args:
        metrics: Of the inverted images: inversion accuracy, and where it was measured transfer accuracy and memorisation.
        num_classes: N; chance is 1 / N.
        ceiling: Mean accuracy of the verifiers on real test images, in [0, 1]; None where it is unknown, then 1.
    """
    chance = 1 / num_classes
    evidence = [
        _rung(
            "does the inverted classifier agree?",
            metrics,
            names.INVERSION_ACCURACY,
            half_way(chance, 1.0),
        )
    ]
    if not evidence[-1].passed:
        return Verdict(NO_INVERSION, tuple(evidence))
    untested_nearness = "whether they are training-like (needs the real data: measure=full, or application=reconstruct)"
    if names.TRANSFER_ACCURACY not in metrics:
        no_verifiers = "whether other networks agree (name some in application.verifiers)"
        return Verdict(NOT_TOLD, tuple(evidence), (no_verifiers, untested_nearness))
    most = 1.0 if ceiling is None else ceiling
    if half_way(chance, most) <= chance + 0.05:
        blind = f"whether other networks agree (the verifiers reach {most:.2f} on real images themselves, chance is {chance:.2f})"
        return Verdict(NOT_TOLD, tuple(evidence), (blind, untested_nearness))
    evidence.append(
        _rung(
            "do networks that never saw them agree?",
            metrics,
            names.TRANSFER_ACCURACY,
            half_way(chance, most),
        )
    )
    if not evidence[-1].passed:
        return Verdict(ADVERSARIAL, tuple(evidence))
    if names.MEMORISATION_GAP_LOW not in metrics:
        return Verdict(CLASS_TYPICAL, tuple(evidence), (untested_nearness,))
    nearer = _rung(
        "nearer to training images than to others?", metrics, names.MEMORISATION_GAP_LOW, NEARER
    )
    if (
        nearer.passed and metrics[names.MEMORISATION_GAP_P_VALUE] > CHANCE_OF_ERROR
    ):  # the other test fails, so that one decides
        p_value = metrics[names.MEMORISATION_GAP_P_VALUE]
        nearer = Evidence(
            "more than random splits of the real images give?",
            names.MEMORISATION_GAP_P_VALUE,
            p_value,
            CHANCE_OF_ERROR,
            False,
        )
    evidence.append(nearer)
    return Verdict(TRAINING_LIKE if nearer.passed else CLASS_TYPICAL, tuple(evidence))


def _rung(question: str, metrics: Mapping[str, float], metric: str, threshold: float) -> Evidence:
    return Evidence(question, metric, metrics[metric], threshold, metrics[metric] > threshold)


@dataclass(frozen=True)
class Case:
    """What a diagnosis is made from.

    Attributes:
        metrics: Of the inverted images and, as `loss/<term>`, the objective's last values; what is missing is not judged.
        num_classes: N.
        weight: The objective's terms by name, with their weights; empty where the objective is not known.
        ceiling: As in `judge`.
        keys: Numbers of the config by key, `application.steps` or `method.steps` and `generator.dropout`, where they apply.
    """

    metrics: Mapping[str, float]
    num_classes: int
    weight: Mapping[str, float] = field(default_factory=dict)
    ceiling: float | None = None
    keys: Mapping[str, float] = field(default_factory=dict)

    def value(self, metric: str) -> float:
        """NaN, which is above and below nothing, where it was not measured."""
        return self.metrics.get(metric, math.nan)

    @property
    def agrees(self) -> bool:
        """Whether the classifier takes most images for what they were made to be."""
        return self.value(names.INVERSION_ACCURACY) > half_way(1 / self.num_classes, 1.0)

    def more(self, term: str) -> str:
        """The override that gives a term three times its weight, or adds it."""
        if term not in self.weight:
            return f"'+loss.{term}={{weight: 1}}'"
        return f"loss.{term}.weight={self.weight[term] * 3 or 1:g}"

    def scaled(self, key: str, factor: float) -> tuple[str, ...]:
        """The override that scales a key of the config; none where the key does not apply, or is 0."""
        return (f"{key}={self.keys[key] * factor:g}",) if self.keys.get(key) else ()


def diagnose(case: Case) -> list[Finding]:
    """The failures that the numbers show; none where all is well."""
    return [finding for failure in FAILURES if (finding := failure(case)) is not None]


def mode_collapse(case: Case) -> Finding | None:  # A9-F1
    value, metric = case.value(names.INTRA_CLASS_COSINE), names.INTRA_CLASS_COSINE
    if not value > COLLAPSED:
        return None
    meaning = "the images of a class are all the same to the classifier"
    settings = (case.more("cosine"), *case.scaled("generator.dropout", 3))
    return Finding("mode collapse", metric, value, COLLAPSED, meaning, settings)


def label_mismatch(case: Case) -> Finding | None:  # A9-F2
    prefix = names.class_accuracy("")
    lost = {
        name: value
        for name, value in case.metrics.items()
        if name.startswith(prefix) and value < CLASS_LOST
    }
    settings = (
        case.more("ce"),
        *case.scaled("application.steps", 2),
        *case.scaled("method.steps", 2),
    )
    if lost:
        worst = min(lost, key=lost.__getitem__)
        classes = [name.removeprefix(prefix) for name in lost]
        which = f"{len(lost)} of {case.num_classes} classes ({', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''})"
        meaning = f"the classifier takes most images of {which} for another class"
        return Finding("label mismatch", worst, lost[worst], CLASS_LOST, meaning, settings)
    if case.agrees or names.INVERSION_ACCURACY not in case.metrics:
        return None
    threshold, meaning = (
        half_way(1 / case.num_classes, 1.0),
        "the classifier takes many images for another class",
    )
    return Finding(
        "label mismatch",
        names.INVERSION_ACCURACY,
        case.value(names.INVERSION_ACCURACY),
        threshold,
        meaning,
        settings,
    )


def noise(case: Case) -> Finding | None:  # A9-F3
    value = case.value(names.TRANSFER_ACCURACY)
    threshold = half_way(1 / case.num_classes, 1.0 if case.ceiling is None else case.ceiling)
    if not (case.agrees and value <= threshold):
        return None
    return Finding(
        "noise",
        names.TRANSFER_ACCURACY,
        value,
        threshold,
        "other networks do not recognise the classes",
        ("loss=natural",),
    )


def over_diversity(case: Case) -> Finding | None:  # A9-F4
    value, metric = case.value(names.INTRA_CLASS_COSINE), names.INTRA_CLASS_COSINE
    if not value < SCATTERED:
        return None
    meaning = "the images of a class have little in common even to the classifier"
    strong = [
        f"loss.{term}.weight={weight / 10:g}"
        for term in ("cosine", "orthogonality")
        if (weight := case.weight.get(term))
    ]
    return Finding(
        "over-diversity",
        metric,
        value,
        SCATTERED,
        meaning,
        (*strong, *case.scaled("generator.dropout", 0.5)),
    )


def kl_against_ce(case: Case) -> Finding | None:
    value, kl, ce = case.value(names.INVERSION_KL), case.weight.get("kl"), case.weight.get("ce")
    if not (case.agrees and kl and ce and value > OUTWEIGHED):
        return None
    meaning = (
        "cross-entropy wants one class, the conditioning is a distribution, and cross-entropy wins"
    )
    settings = (f"loss.ce.weight={kl / 2:g}", "conditioning.vectors=hot")
    return Finding("KL against CE", names.INVERSION_KL, value, OUTWEIGHED, meaning, settings)


def orthogonality_at_its_floor(case: Case) -> Finding | None:
    metric = names.excess("orthogonality")
    if not (case.weight.get("orthogonality") and case.value(metric) < SATURATED):
        return None
    meaning = "features are as orthogonal as so many images in so few dimensions can be: the term pushes no more"
    settings = ("loss.orthogonality.weight=0",)
    return Finding(
        "orthogonality at its floor", metric, case.value(metric), SATURATED, meaning, settings
    )


FAILURES = (
    mode_collapse,
    label_mismatch,
    noise,
    over_diversity,
    kl_against_ce,
    orthogonality_at_its_floor,
)
