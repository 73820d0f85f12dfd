"""A contest of detectors: their scores on every set, and the metrics, tables and figures that come of them (A5, A4-6 to A4-8).

Shape suffixes: n images, M classes of a classifier, d detectors, S sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.data.outliers import NOISE
from netinv_lightning.metrics.detection import calibration, detection, garbage_rate, threshold_claim
from netinv_lightning.ood.detectors import Detector, look
from netinv_lightning.ood.detectors.ranking import ranking_table
from netinv_lightning.ood.figures import confidence_histograms, detection_table, roc_curves
from netinv_lightning.runs.tables import Cell, Table
from netinv_lightning.training.progress import tell

PLAIN = "plain"
"""Name of the classifier without a garbage class."""
RESERVED = ("own", "mean", "best")
"""What sets may not be called, since metrics are."""
COLUMNS = {
    "auroc": "AUROC",
    "auroc_low": "from",
    "auroc_high": "to",
    "aupr_out": "AUPR out",
    "aupr_in": "AUPR in",
    "fpr95_in": "FPR95 in",
    "fpr95_out": "FPR95 out",
    "detection_error": "error",
}
"""What the table tells, by the attribute of `Detection`."""


@dataclass(frozen=True)
class Contest:
    """What detectors and classifiers say of the in-distribution test images and of each set outside.

    Attributes:
        own: Name of the in-distribution data, the first of the sets.
        label_n: True classes of the in-distribution images.
        classes: Their number; a classifier that gives one logit more has a garbage class.
        scores: Scores [n] by detector and set, higher = more out-of-distribution.
        logits: Logits [n, M] by classifier and set.
        seed: Of the bootstrap.
    """

    own: str
    label_n: Tensor
    classes: int
    scores: dict[str, dict[str, Tensor]]
    logits: dict[str, dict[str, Tensor]]
    seed: int

    @property
    def outside(self) -> list[str]:
        return [name for name in next(iter(self.logits.values())) if name != self.own]

    def metrics(self) -> dict[str, float]:
        """Every number of the contest, by its name."""
        found: dict[str, float] = {}
        for detector, of_sets in self.scores.items():
            for name in self.outside:
                told = asdict(detection(of_sets[self.own], of_sets[name], self.seed))
                found |= {names.ood(detector, name, what): told[what] for what in COLUMNS}
            aurocs = [found[names.ood(detector, name, "auroc")] for name in self.outside]
            found[names.ood(detector, "mean", "auroc")] = sum(aurocs) / len(aurocs)
        found[names.OOD_MEAN_AUROC] = max(
            found[names.ood(detector, "mean", "auroc")] for detector in self.scores
        )
        for classifier in self.logits:
            found |= self._of_classifier(classifier)
        return found

    def _of_classifier(self, classifier: str) -> dict[str, float]:
        """Accuracy and calibration at home, garbage rate and the papers' threshold abroad (A4-7, A4-8, A4-15)."""
        own_nM = self.logits[classifier][self.own].softmax(dim=1)
        calibrated, own_confidence_n = (
            calibration(own_nM, self.label_n),
            self._confidence(classifier, self.own),
        )
        found = {
            names.ood(classifier, "own", "accuracy"): float(
                (own_nM.argmax(dim=1) == self.label_n).float().mean()
            ),
            names.ood(classifier, "own", "ece"): calibrated.ece,
            names.ood(classifier, "own", "brier"): calibrated.brier,
        }
        for name, logits_nM in self.logits[classifier].items():
            confidence_n, taken_n = (
                self._confidence(classifier, name),
                self._taken(classifier, name),
            )
            what = "own" if name == self.own else name
            found[names.ood(classifier, what, "confidence")] = float(confidence_n.mean())
            if logits_nM.shape[1] > self.classes:
                found[names.ood(classifier, what, "garbage_rate")] = garbage_rate(
                    logits_nM.argmax(dim=1), self.classes
                )
            if name != self.own:
                claim = threshold_claim(own_confidence_n, confidence_n, taken_n)
                found |= {
                    names.ood(classifier, name, "gap"): claim.all_samples.gap,
                    names.ood(classifier, name, "gap_but_5_percent"): claim.but_5_percent.gap,
                    names.ood(classifier, name, "violations"): claim.all_samples.violations_out,
                }
        return {
            name: value for name, value in found.items() if value == value
        }  # a gap to no misclassified image is no number

    def _confidence(self, classifier: str, name: str) -> Tensor:
        """Greatest probability [n] of a class other than garbage."""
        return self.logits[classifier][name].softmax(dim=1)[:, : self.classes].amax(dim=1)

    def _taken(self, classifier: str, name: str) -> Tensor:
        """Which images are taken for an in-distribution class, [n]."""
        return self.logits[classifier][name].argmax(dim=1) < self.classes

    def tables(self, metrics: Mapping[str, float], notes: list[str]) -> dict[str, Table]:
        """By the stem of their files: `detection`, a row a detector and set; `classifiers`; `ranking`, the slides' own."""
        rows: list[list[Cell]] = [
            [detector, name, *(metrics[names.ood(detector, name, what)] for what in COLUMNS)]
            for detector in self.scores
            for name in self.outside
        ]
        of_classifiers: list[list[Cell]] = [
            [
                classifier,
                name,
                *(metrics.get(names.ood(classifier, name, what)) for what in CLASSIFIER_COLUMNS),
            ]
            for classifier in self.logits
            for name in ["own", *self.outside]
        ]
        aurocs = {
            d: {name: metrics[names.ood(d, name, "auroc")] for name in self.outside}
            for d in self.scores
        }
        return {
            "detection": Table(
                f"Detected: what is not {self.own}",
                ["detector", "set", *COLUMNS.values()],
                rows,
                notes,
            ),
            "classifiers": Table(
                f"What classifiers of {self.own} say",
                ["classifier", "set", *CLASSIFIER_COLUMNS.values()],
                of_classifiers,
                CLASSIFIER_NOTES,
            ),
            "ranking": ranking_table(aurocs, NOISE),
        }

    def draw(
        self, metrics: Mapping[str, float], folder: Path, controls: set[str]
    ) -> dict[str, Path]:
        """Figures by their stem.

        Args:
            metrics: As `metrics()` gives them.
            folder: Where to.
            controls: Detectors that are controls, marked as such.
        """
        title, detectors, outside = (
            f"{self.own}: out-of-distribution detection",
            list(self.scores),
            self.outside,
        )
        auroc_dS = torch.tensor(
            [[metrics[names.ood(d, name, "auroc")] for name in outside] for d in detectors]
        )
        inside = {d: self.scores[d][self.own] for d in detectors}
        panels = {
            c: (
                self._confidence(c, self.own),
                {name: self._confidence(c, name) for name in outside},
            )
            for c in self.logits
        }
        taken = {c: {name: self._taken(c, name) for name in outside} for c in self.logits}
        return {
            "detection": detection_table(
                auroc_dS, detectors, outside, folder / "detection", title, controls
            ),
            "roc": roc_curves(
                inside,
                {name: {d: self.scores[d][name] for d in detectors} for name in outside},
                folder / "roc",
                title,
            ),
            "confidence": confidence_histograms(
                panels, folder / "confidence", f"{self.own}: confidence", taken
            ),
        }


CLASSIFIER_COLUMNS = {
    "accuracy": "accuracy",
    "garbage_rate": "garbage rate",
    "confidence": "confidence",
    "gap": "gap",
    "gap_but_5_percent": "gap but 5 %",
    "violations": "violations",
    "ece": "ECE",
    "brier": "Brier",
}
"""What is told of a classifier's view of a set, by the name of the metric."""
CLASSIFIER_NOTES = [
    "garbage rate: share whose likeliest class is garbage; a detector may tell them apart by the score where it is 0",
    "accuracy: garbage is a wrong answer; confidence: mean of the greatest probability of a class other than garbage",
    "gap: least confident image of the own less the most confident one outside that is taken for a class; the papers claim that it is "
    "above 0; but 5 %: without the most extreme 5 % of either; violations: share of the set that speaks against the claim",
]


def hold(
    detectors: Mapping[str, Mapping[str, Detector]],
    own: str,
    label_n: Tensor,
    sets: Mapping[str, Tensor],
    classes: int,
    seed: int,
) -> Contest:
    """Lets every detector score every set; a classifier sees each set once.

    Args:
        detectors: By classifier, then by name; those of one group share their classifier.
        own: Name of the in-distribution set.
        label_n: Its labels.
        sets: Images [n, C, H, W] in [0, 1] by name, `own` among them.
        classes: Of the in-distribution data.
        seed: Of the bootstrap.
    """
    scores: dict[str, dict[str, Tensor]] = {
        name: {} for group in detectors.values() for name in group
    }
    logits: dict[str, dict[str, Tensor]] = {classifier: {} for classifier in detectors}
    for classifier, group in detectors.items():
        layers = [layer for detector in group.values() for layer in detector.layers]
        for set_name, images_nCHW in sets.items():
            tell(f"detecting: {classifier} looks at {set_name}, {len(images_nCHW)} images")
            seen = look(next(iter(group.values())).classifier, images_nCHW, layers)
            logits[classifier][set_name] = seen.logits_nN
            for name, detector in group.items():
                scores[name][set_name] = detector.rule(seen)
    return Contest(own, label_n, classes, scores, logits, seed)
