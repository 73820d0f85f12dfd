"""Notes below the table of detectors: data, tuning and sources of bias."""

from __future__ import annotations

from collections.abc import Mapping

from netinv_lightning.ood.detectors import Detector
from netinv_lightning.ood.detectors.garbage_class import ODDS_AND_ENERGY
from netinv_lightning.ood.detectors.scorer import TunedScorer

TUNED = 0.55
"""If the AUROC against noise is at most this value, tuning on noise had no effect."""
LEGEND = (
    "from, to: 95 % interval of the AUROC, by bootstrap; error: lowest mean of the two error rates "
    "over all thresholds",
    "fpr95_in: share of OOD images that are accepted if 95 % of in-distribution images are; "
    "fpr95_out: share of in-distribution images that are rejected if 95 % of OOD images are",
)


def data_notes(
    in_distribution: str, counts: Mapping[str, int], test: int, training: int, seed: int
) -> list[str]:
    """Describe the data.

    Args:
        in_distribution: Name of the in-distribution data.
        counts: Number of images in each OOD set.
        test: Number of in-distribution test images.
        training: Number of training images.
        seed: The seed of the run.
    """
    outside = ", ".join(f"{name} {count}" for name, count in counts.items())
    return [
        f"in-distribution: {in_distribution}, {test} test images; OOD: {outside}",
        f"fitted on {training} training images; seed {seed}; sets of another shape are converted "
        "(netinv_lightning/data/outliers.py)",
    ]


def detector_notes(fitted: Mapping[str, Detector], garbage_scores: Mapping[str, str]) -> list[str]:
    """Describe how detectors were tuned.

    Args:
        fitted: The detectors of the frozen classifier.
        garbage_scores: The score of each classifier with a garbage class.
    """
    notes = []
    for name, detector in fitted.items():
        if isinstance(scorer := detector.scorer, TunedScorer):
            meaning = "its values on noise are therefore optimistic"
            if scorer.auroc <= TUNED:
                meaning = "noise was not separable, so the tuning had no effect"
            notes.append(
                f"{name} is tuned on validation images against noise "
                f"(best setting: {scorer.setting}); "
                f"{meaning}"
            )
    if garbage_scores:
        notes.append(
            "the first images of a garbage class are noise, so its values on noise are optimistic"
        )
    summed = [name for name, score in garbage_scores.items() if score == ODDS_AND_ENERGY]
    if summed:
        notes.append(
            f"{', '.join(summed)}: the score is the sum of the log-odds of garbage and the energy "
            f"of the other classes (score={ODDS_AND_ENERGY})"
        )
    return [*notes, *LEGEND]
