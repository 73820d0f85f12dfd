"""Notes below the table of detectors: data, tuning and sources of bias."""

from __future__ import annotations

from collections.abc import Mapping

from netinv_lightning.config.garbage_schema import GarbageConfig
from netinv_lightning.ood.detection_data import DetectionData
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


def data_notes(data: DetectionData, seed: int) -> list[str]:
    """Describe the data.

    Args:
        data: The images.
        seed: The seed of the run.
    """
    own = data.name
    if data.classes:
        own += f", classes {', '.join(data.classes)}"
    outside = ", ".join(f"{name} {len(images)}" for name, images in data.outside.items())
    return [
        f"in-distribution: {own}, {len(data.test.labels_n)} test images; OOD: {outside}",
        f"fitted on {len(data.training.labels_n)} training images; seed {seed}; sets of another "
        "shape are converted (netinv_lightning/data/outliers.py)",
    ]


def detector_notes(
    fitted: Mapping[str, Detector], garbage: Mapping[str, GarbageConfig]
) -> list[str]:
    """Describe how detectors were tuned.

    Args:
        fitted: The detectors of the frozen classifier.
        garbage: The keys of each classifier with a garbage class.
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
    if garbage:
        notes.append(
            "the first images of a garbage class are noise, so its values on noise are optimistic"
        )
    summed = [name for name, of in garbage.items() if of.score == ODDS_AND_ENERGY]
    if summed:
        notes.append(
            f"{', '.join(summed)}: the score is the sum of the log-odds of garbage and the energy "
            f"of the other classes (score={ODDS_AND_ENERGY})"
        )
    return [*notes, *LEGEND]
