"""Accuracy of a classifier on the real images of a run.

An accuracy near chance usually means a wrong normalisation or a wrong order of the labels.

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

import math

from netinv_lightning.classifiers.features import extract_logits
from netinv_lightning.classifiers.forward_count import uncounted
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.splits import stratified_indices
from netinv_lightning.runs.notices import notice

IMAGES = 1000
BATCH = 250
DEVIATIONS = 3
"""Accuracies up to this number of binomial standard deviations above chance count as guessing."""


def report_accuracy(classifier: FrozenClassifier, real: ImageDataModule) -> None:
    """Print and record the accuracy on up to 1,000 test images; warn if it is near chance.

    Near chance means at most three standard deviations above the larger of 1/N and the share of the
    largest class.
    """
    if classifier.real_accuracy is not None or not classifier.trained or not len(real.test[1]):
        return
    images_nCHW, label_n = real.test
    chosen_n = stratified_indices(label_n, min(IMAGES, len(label_n)), 0)
    images_nCHW, label_n = images_nCHW[chosen_n], label_n[chosen_n]
    n = len(label_n)
    with uncounted(classifier):  # not a cost of the inversion
        predicted_n = extract_logits(classifier, images_nCHW, BATCH).argmax(dim=1)
    accuracy = float((predicted_n == label_n).double().mean())
    classifier.real_accuracy = accuracy
    notice(f"classifier: accuracy {accuracy:.4f} on {n} test images of {real.spec.name}")
    if accuracy <= largest_chance(float(label_n.bincount().max()) / n, real.spec.num_classes, n):
        in_use = classifier.describe_normalisation().partition(": ")[2]
        notice(
            "warning: this is near chance; check classifier.mean and classifier.std "
            f"({in_use}), the order of the labels, and the checkpoint"
        )


def largest_chance(largest_share: float, num_classes: int, n: int) -> float:
    """Return the largest accuracy on n images that is consistent with guessing."""
    share = max(largest_share, 1 / num_classes)
    return share + DEVIATIONS * math.sqrt(share * (1 - share) / n)
