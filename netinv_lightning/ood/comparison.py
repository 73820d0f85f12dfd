"""Comparison of detectors: scores on every data set, metrics, tables and figures.

The metrics test claims of Suhail, Tang and Sethi 2024 (arXiv 2411.17777, section 5.2).

Shape suffixes: n images, M classes of a classifier, d detectors, S data sets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.data.outliers import NOISE
from netinv_lightning.metric_names import OWN
from netinv_lightning.metrics.calibration import calibration
from netinv_lightning.metrics.detection import detection, garbage_rate, threshold_claim
from netinv_lightning.ood.confidence_figure import confidence_histograms
from netinv_lightning.ood.detection_figure import detection_heatmap
from netinv_lightning.ood.detectors import Detector, extract_for, score_all
from netinv_lightning.ood.roc_figure import roc_curves
from netinv_lightning.ood.slide_ranking import ranking_table
from netinv_lightning.runs.tables import Cell, Table
from netinv_lightning.training.progress import stages

DETECTION_COLUMNS = {
    "auroc": "AUROC",
    "auroc_low": "from",
    "auroc_high": "to",
    "aupr_out": "AUPR out",
    "aupr_in": "AUPR in",
    "fpr95_in": "FPR95 in",
    "fpr95_out": "FPR95 out",
    "detection_error": "error",
}
"""Columns of the table of detectors, by attribute of `Detection`."""
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
"""Columns of the table of classifiers, by name of the metric."""
CLASSIFIER_NOTES = [
    "garbage rate: share of images whose most probable class is garbage; at a rate of 0 the score "
    "may still detect them",
    "accuracy: an image classified as garbage is an error; confidence: mean of the largest "
    "probability of a class other than garbage",
    "gap: confidence of the least confident in-distribution image minus that of the most confident "
    "OOD image that is not classified as garbage; the paper claims that it is above 0; "
    "gap but 5 %: without the most extreme 5 % of either; "
    "violations: share of the data set that contradicts the claim",
]


@dataclass(frozen=True)
class DetectorComparison:
    """Outputs of detectors and classifiers on in-distribution and OOD data.

    Attributes:
        in_distribution: Name of the in-distribution data.
        label_n: True classes of the in-distribution images.
        classes: Their number; a classifier with one logit more has a garbage class.
        scores: Scores [n] by detector and data set, higher = more out-of-distribution.
        logits: Logits [n, M] by classifier and data set.
        seed: Seed of the bootstrap.
    """

    in_distribution: str
    label_n: Tensor
    classes: int
    scores: dict[str, dict[str, Tensor]]
    logits: dict[str, dict[str, Tensor]]
    seed: int

    @property
    def ood_sets(self) -> list[str]:
        return [name for name in next(iter(self.logits.values())) if name != self.in_distribution]

    def metrics(self) -> dict[str, float]:
        """Return every metric of detectors and classifiers, by name."""
        metrics: dict[str, float] = {}
        for detector, by_set in self.scores.items():
            for name in self.ood_sets:
                values = asdict(detection(by_set[self.in_distribution], by_set[name], self.seed))
                metrics |= {
                    names.ood(detector, name, what): values[what] for what in DETECTION_COLUMNS
                }
            aurocs = [metrics[names.ood(detector, name, "auroc")] for name in self.ood_sets]
            metrics[names.ood(detector, "mean", "auroc")] = sum(aurocs) / len(aurocs)
        metrics[names.OOD_MEAN_AUROC] = max(
            metrics[names.ood(detector, "mean", "auroc")] for detector in self.scores
        )
        for classifier in self.logits:
            metrics |= self._classifier_metrics(classifier)
        return metrics

    def _classifier_metrics(self, classifier: str) -> dict[str, float]:
        """Return in-distribution accuracy and calibration, OOD garbage rate and threshold."""
        own_nM = self.logits[classifier][self.in_distribution].softmax(dim=1)
        calibrated = calibration(own_nM, self.label_n)
        accuracy = float((own_nM.argmax(dim=1) == self.label_n).float().mean())
        own_confidence_n = self._confidence(classifier, self.in_distribution)
        metrics = {
            names.ood(classifier, OWN, "accuracy"): accuracy,
            names.ood(classifier, OWN, "ece"): calibrated.ece,
            names.ood(classifier, OWN, "brier"): calibrated.brier,
        }
        for name, logits_nM in self.logits[classifier].items():
            label = OWN if name == self.in_distribution else name
            confidence_n = self._confidence(classifier, name)
            metrics[names.ood(classifier, label, "confidence")] = float(confidence_n.mean())
            if logits_nM.shape[1] > self.classes:
                rate = garbage_rate(logits_nM.argmax(dim=1), self.classes)
                metrics[names.ood(classifier, label, "garbage_rate")] = rate
            if name != self.in_distribution:
                claim = threshold_claim(
                    own_confidence_n, confidence_n, self._accepted(classifier, name)
                )
                metrics |= {
                    names.ood(classifier, name, "gap"): claim.all_samples.gap,
                    names.ood(classifier, name, "gap_but_5_percent"): claim.but_5_percent.gap,
                    names.ood(classifier, name, "violations"): claim.all_samples.violations_out,
                }
        # A gap is NaN if every OOD image is classified as garbage.
        return {name: value for name, value in metrics.items() if value == value}

    def _confidence(self, classifier: str, name: str) -> Tensor:
        """Return the largest probability of a class other than garbage, [n]."""
        return self.logits[classifier][name].softmax(dim=1)[:, : self.classes].amax(dim=1)

    def _accepted(self, classifier: str, name: str) -> Tensor:
        """Return which images are classified as an in-distribution class, [n]."""
        return self.logits[classifier][name].argmax(dim=1) < self.classes

    def tables(self, metrics: Mapping[str, float], notes: list[str]) -> dict[str, Table]:
        """Return the tables by the stem of their files.

        `detection` has one row per detector and data set, `classifiers` one per classifier and data
        set; `ranking` compares with the ranking of the slides.
        """
        detection_rows: list[list[Cell]] = [
            [
                detector,
                name,
                *(metrics[names.ood(detector, name, what)] for what in DETECTION_COLUMNS),
            ]
            for detector in self.scores
            for name in self.ood_sets
        ]
        classifier_rows: list[list[Cell]] = [
            [
                classifier,
                name,
                *(metrics.get(names.ood(classifier, name, what)) for what in CLASSIFIER_COLUMNS),
            ]
            for classifier in self.logits
            for name in [OWN, *self.ood_sets]
        ]
        aurocs = {
            d: {name: metrics[names.ood(d, name, "auroc")] for name in self.ood_sets}
            for d in self.scores
        }
        return {
            "detection": Table(
                f"Detectors (in-distribution: {self.in_distribution})",
                ["detector", "set", *DETECTION_COLUMNS.values()],
                detection_rows,
                notes,
            ),
            "classifiers": Table(
                f"Classifiers (in-distribution: {self.in_distribution})",
                ["classifier", "set", *CLASSIFIER_COLUMNS.values()],
                classifier_rows,
                CLASSIFIER_NOTES,
            ),
            "ranking": ranking_table(aurocs, NOISE),
        }

    def draw(
        self, metrics: Mapping[str, float], folder: Path, baselines: Collection[str]
    ) -> dict[str, Path]:
        """Draw the figures; return their paths by stem.

        Args:
            metrics: The result of `metrics()`.
            folder: Folder of the figures.
            baselines: Names of the detectors that are marked as baselines.
        """
        title = f"Out-of-distribution detection (in-distribution: {self.in_distribution})"
        detectors, ood_sets = list(self.scores), self.ood_sets
        auroc_dS = torch.tensor(
            [[metrics[names.ood(d, name, "auroc")] for name in ood_sets] for d in detectors]
        )
        confidences = {
            c: (
                self._confidence(c, self.in_distribution),
                {name: self._confidence(c, name) for name in ood_sets},
            )
            for c in self.logits
        }
        accepted = {c: {name: self._accepted(c, name) for name in ood_sets} for c in self.logits}
        return {
            "detection": detection_heatmap(
                auroc_dS, detectors, ood_sets, folder / "detection", title, baselines
            ),
            "roc": roc_curves(
                {d: self.scores[d][self.in_distribution] for d in detectors},
                {name: {d: self.scores[d][name] for d in detectors} for name in ood_sets},
                folder / "roc",
                title,
            ),
            "confidence": confidence_histograms(
                confidences,
                folder / "confidence",
                f"Confidence (in-distribution: {self.in_distribution})",
                accepted,
            ),
        }


def compare_detectors(
    detectors: Mapping[str, Mapping[str, Detector]],
    *,
    in_distribution: str,
    label_n: Tensor,
    images: Mapping[str, Tensor],
    classes: int,
    seed: int,
) -> DetectorComparison:
    """Score every data set with every detector; each classifier runs once per data set.

    Args:
        detectors: Detectors by classifier, then by name; those of one group share their classifier.
        in_distribution: Name of the in-distribution data.
        label_n: Their labels.
        images: Images [n, C, H, W] in [0, 1] by data set, the in-distribution one included.
        classes: Number of in-distribution classes.
        seed: Seed of the bootstrap.
    """
    scores: dict[str, dict[str, Tensor]] = {
        name: {} for group in detectors.values() for name in group
    }
    logits: dict[str, dict[str, Tensor]] = {classifier: {} for classifier in detectors}
    for classifier, group in detectors.items():
        for set_name in stages(f"scoring with {classifier}, data set", images):
            images_nCHW = images[set_name]
            features = extract_for(group, images_nCHW)
            logits[classifier][set_name] = features.logits_nN
            for name, score_n in score_all(group, features).items():
                scores[name][set_name] = score_n
    return DetectorComparison(in_distribution, label_n, classes, scores, logits, seed)
