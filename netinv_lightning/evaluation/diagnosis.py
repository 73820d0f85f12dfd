"""Detect failures of an inversion from its metrics, and suggest settings to change.

All functions are pure functions of numbers.

The first four failures are those of the analysis note on network inversion (`docs/paper_map.md`,
rows A9-F1 to A9-F4). The fifth is a class that one network does not recognise although the images
transfer on average. The other two concern the objective: terms that oppose each other, and a term
that cannot decrease further. Settings that are in effect already are not suggested.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from netinv_lightning import metric_names as names
from netinv_lightning.evaluation.verdict import MOST_CLASSES, half_way, listed, unrecognised

COLLAPSED = 0.98  # cosine within a class; real images of the zoo's data sets: 0.64 to 0.88
SCATTERED = 0.5
CLASS_LOST = 0.5  # accuracy of one class
OUTWEIGHED = math.log(2)
"""Nats. With equal weights the optimum is Q = (P + one-hot) / 2, for which KL(P||Q) <= ln 2."""
SATURATED = 0.02  # excess over the floor; identical features give about 1
MOST_DROPOUT = 0.5
"""Largest dropout that a diagnosis suggests."""
NATURAL = ("kl", "ce", "class_spread")
PRIORS = ("batch_norm", "pixel_statistics")
"""The terms of `loss=natural`: all of the former and one of the latter."""


@dataclass(frozen=True)
class Finding:
    """A failure: the metric that shows it, its value, the threshold, and settings to try."""

    failure: str
    metric: str
    value: float
    threshold: float
    meaning: str
    settings: tuple[str, ...]

    @property
    def line(self) -> str:
        advice = f"; try {' or '.join(self.settings)}" if self.settings else ""
        return (
            f"diagnosis: {self.failure}: {self.meaning} "
            f"({self.metric} {self.value:.3f}, threshold {self.threshold:.3f}){advice}"
        )


@dataclass(frozen=True)
class Case:
    """Input of a diagnosis.

    Attributes:
        metrics: Metrics of the inverted images and the last values of the objective's terms
            (`loss/<term>`). A failure whose metric is missing is not reported.
        num_classes: N.
        weight: Weights of the objective's terms; empty if the objective is unknown.
        ceiling: As in `verdict.judge`.
        keys: Config keys whose values a diagnosis may suggest scaling: `application.steps` or
            `method.steps`, and `generator.dropout`, if they apply.
        hot: Whether the conditioning vectors are one-hot already.
    """

    metrics: Mapping[str, float]
    num_classes: int
    weight: Mapping[str, float] = field(default_factory=dict)
    ceiling: float | None = None
    keys: Mapping[str, float] = field(default_factory=dict)
    hot: bool = False

    def value(self, metric: str) -> float:
        """Return the metric, or NaN (which fails every comparison) if it was not measured."""
        return self.metrics.get(metric, math.nan)

    @property
    def agrees(self) -> bool:
        """Whether the classifier assigns most images to the requested class."""
        return self.value(names.INVERSION_ACCURACY) > half_way(1 / self.num_classes, 1.0)

    @property
    def transfer_threshold(self) -> float:
        return half_way(1 / self.num_classes, 1.0 if self.ceiling is None else self.ceiling)

    def natural(self) -> tuple[str, ...]:
        """Return the override that chooses `loss=natural`, or those that strengthen its prior."""
        priors = [term for term in PRIORS if self.weight.get(term)]
        if not (priors and all(self.weight.get(term) for term in NATURAL)):
            return ("loss=natural",)
        return (self.more(priors[0]), *self.scaled("application.steps", 2))

    def more(self, term: str) -> str:
        """Return the override that triples the weight of a term, or adds the term."""
        if term not in self.weight:
            return f"'+loss.{term}={{weight: 1}}'"
        return f"loss.{term}.weight={self.weight[term] * 3 or 1:g}"

    def scaled(self, key: str, factor: float) -> tuple[str, ...]:
        """Return the override that scales a key; none if the key does not apply or is 0."""
        if not (now := self.keys.get(key)):
            return ()
        value = now * factor
        if key == "generator.dropout" and factor > 1:
            value = min(value, max(now, MOST_DROPOUT))
        return (f"{key}={value:g}",) if value != now else ()


def diagnose(case: Case) -> list[Finding]:
    """Return the failures that the numbers show; empty if there are none."""
    return [finding for failure in FAILURES if (finding := failure(case)) is not None]


def mode_collapse(case: Case) -> Finding | None:
    value, metric = case.value(names.INTRA_CLASS_COSINE), names.INTRA_CLASS_COSINE
    if not value > COLLAPSED:
        return None
    meaning = "the classifier's features are nearly the same for all images of a class"
    settings = (case.more("cosine"), *case.scaled("generator.dropout", 3))
    return Finding("mode collapse", metric, value, COLLAPSED, meaning, settings)


def label_mismatch(case: Case) -> Finding | None:
    prefix = names.class_accuracy("")
    lost = {
        name: value
        for name, value in case.metrics.items()
        if name.startswith(prefix) and value < CLASS_LOST
    }
    if lost:
        metric, threshold = min(lost, key=lost.__getitem__), CLASS_LOST
        classes = [name.removeprefix(prefix) for name in lost]
        listed = ", ".join([*classes[:MOST_CLASSES], *["..."][: len(classes) > MOST_CLASSES]])
        meaning = (
            f"the classifier assigns most images of {len(lost)} of {case.num_classes} classes "
            f"({listed}) to other classes"
        )
    elif names.INVERSION_ACCURACY in case.metrics and not case.agrees:
        metric, threshold = names.INVERSION_ACCURACY, half_way(1 / case.num_classes, 1.0)
        meaning = "the classifier assigns many images to other classes"
    else:
        return None
    settings = (
        case.more("ce"),
        *case.scaled("application.steps", 2),
        *case.scaled("method.steps", 2),
    )
    return Finding("label mismatch", metric, case.value(metric), threshold, meaning, settings)


def noise(case: Case) -> Finding | None:
    metric, value = names.TRANSFER_ACCURACY, case.value(names.TRANSFER_ACCURACY)
    threshold = case.transfer_threshold
    if not (case.agrees and value <= threshold):
        return None
    meaning = "other networks do not recognise the classes"
    return Finding("noise", metric, value, threshold, meaning, case.natural())


def class_not_recognised(case: Case) -> Finding | None:
    threshold = case.transfer_threshold
    if not (case.agrees and case.value(names.TRANSFER_ACCURACY) > threshold):
        return None
    if not (lost := unrecognised(case.metrics, threshold)):
        return None
    metric = names.of_network(
        names.class_accuracy(lost[0].label, names.TRANSFER_ACCURACY), lost[0].verifier
    )
    meaning = f"a network does not recognise classes: {listed(lost)}"
    settings = case.natural()
    return Finding("class not recognised", metric, lost[0].value, threshold, meaning, settings)


def over_diversity(case: Case) -> Finding | None:
    value, metric = case.value(names.INTRA_CLASS_COSINE), names.INTRA_CLASS_COSINE
    if not value < SCATTERED:
        return None
    meaning = "the classifier's features have little in common within a class"
    weaker = [
        f"loss.{term}.weight={weight / 10:g}"
        for term in ("cosine", "orthogonality")
        if (weight := case.weight.get(term))
    ]
    settings = (*weaker, *case.scaled("generator.dropout", 0.5))
    return Finding("over-diversity", metric, value, SCATTERED, meaning, settings)


def kl_against_ce(case: Case) -> Finding | None:
    value, kl, ce = case.value(names.INVERSION_KL), case.weight.get("kl"), case.weight.get("ce")
    if not (case.agrees and kl and ce and value > OUTWEIGHED):
        return None
    meaning = "cross-entropy, which favours a single class, outweighs the conditioning distribution"
    settings = (
        *([f"loss.ce.weight={kl / 2:g}"] if ce > kl / 2 else []),
        *([] if case.hot else ["conditioning.vectors=hot"]),
    )
    return Finding("KL against CE", names.INVERSION_KL, value, OUTWEIGHED, meaning, settings)


def orthogonality_at_its_floor(case: Case) -> Finding | None:
    metric = names.excess("orthogonality")
    value = case.value(metric)
    if not (case.weight.get("orthogonality") and value < SATURATED):
        return None
    meaning = "the term cannot decrease further with so many images in so few dimensions"
    settings = ("loss.orthogonality.weight=0",)
    return Finding("orthogonality at its floor", metric, value, SATURATED, meaning, settings)


FAILURES = (
    mode_collapse,
    label_mismatch,
    noise,
    class_not_recognised,
    over_diversity,
    kl_against_ce,
    orthogonality_at_its_floor,
)
