"""Counterfeits: images that a classifier confidently assigns to a class, compared with real images.

These are the adversarial data of the slides (Taparia, "Applications").

Shape suffixes: n images, m reference images, D values per image, P pixels, C channels, H height,
W width, N classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import FeatureSet, extract_features
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.log_odds import log_odds
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.metrics.correlation import unit_rows

DISTANCE_ROWS = 250
"""Rows of a distance matrix that are computed at a time."""
INVERTED, COUNTERFEITS, REAL, NOISE = "inverted images", "counterfeits", "real test images", "noise"
SHORT = {INVERTED: "inverted", COUNTERFEITS: "counterfeits", REAL: "real", NOISE: "noise"}
"""Short names of the sets, used in metric names."""


@dataclass(frozen=True)
class Predictions:
    """Predictions of a network for images that were made for a class.

    Attributes:
        confidence_n: Probability of that class, in [0, 1].
        log_odds_n: Log-odds of that class, which also distinguish confidences that float32 rounds
            to 1.
        predicted_n: Most probable class.
        max_probability_n: Probability of the most probable class.
    """

    confidence_n: Tensor
    log_odds_n: Tensor
    predicted_n: Tensor
    max_probability_n: Tensor


def predictions(logits_nN: Tensor, label_n: Tensor) -> Predictions:
    """Return the predictions from the logits of images that were made for the classes `label_n`."""
    logits_nN = logits_nN.double()
    log_odds_n = log_odds(logits_nN, label_n)
    max_probability_n, predicted_n = logits_nN.softmax(dim=1).max(dim=1)
    return Predictions(log_odds_n.sigmoid(), log_odds_n, predicted_n, max_probability_n)


@dataclass(frozen=True)
class NearestRows:
    """The nearest reference image of each image.

    Attributes:
        distance_n: Its distance.
        index_n: Its index.
    """

    distance_n: Tensor
    index_n: Tensor


def nearest_rows(value_nD: Tensor, reference_mD: Tensor) -> NearestRows:
    """Return the nearest row of the reference, by Euclidean distance."""
    index_n = torch.cat(
        [torch.cdist(part, reference_mD).argmin(dim=1) for part in value_nD.split(DISTANCE_ROWS)]
    )
    # Computed again, without the rounding of the matrix product in cdist.
    return NearestRows((value_nD - reference_mD[index_n]).norm(dim=1), index_n)


class ReferenceImages:
    """Real images, with three distances to them: pixels, correlation, features of another network.

    Args:
        images_mCHW: Images in [0, 1].
        features_mD: Their features in another network; None without one.
    """

    def __init__(self, images_mCHW: Tensor, features_mD: Tensor | None = None) -> None:
        self.images_mCHW, self.features_mD = images_mCHW, features_mD

    def nearest(
        self, images_nCHW: Tensor, features: FeatureSet | None = None
    ) -> dict[str, NearestRows]:
        """Return the nearest reference image by each distance.

        Args:
            images_nCHW: Images in [0, 1].
            features: Their outputs in the same other network.

        Returns:
            `rms`: root mean square difference of a pixel, in [0, 1]. `correlation`: normalised
            cross-correlation, in [-1, 1]; unlike a distance, higher is nearer. `feature`: Euclidean
            distance of the features, if there is another network.
        """
        x_nP, reference_mP = images_nCHW.flatten(1), self.images_mCHW.flatten(1)
        pixels = nearest_rows(x_nP, reference_mP)
        shapes = nearest_rows(unit_rows(x_nP), unit_rows(reference_mP))
        found = {
            "rms": NearestRows(pixels.distance_n / x_nP.shape[1] ** 0.5, pixels.index_n),
            "correlation": NearestRows(1 - shapes.distance_n.square() / 2, shapes.index_n),
        }
        if self.features_mD is not None and features is not None:
            found["feature"] = nearest_rows(features.features_nD, self.features_mD)
        return found


class EvaluatedImages:
    """A set of images, with the predictions of every network and the nearest real images.

    Args:
        images: The images.
        classifier: The classifier that was inverted.
        verifiers: Other networks, by name.
        reference: Real images for the distances; None if they are missing.
    """

    def __init__(
        self,
        images: Images,
        classifier: FrozenClassifier,
        verifiers: dict[str, FrozenClassifier],
        reference: ReferenceImages | None,
    ) -> None:
        self.images = images
        self.own = predictions(
            extract_features(classifier, images.images_nCHW).logits_nN, images.labels_n
        )
        outputs = {
            name: extract_features(network, images.images_nCHW)
            for name, network in verifiers.items()
        }
        self.verifiers = {
            name: predictions(output.logits_nN, images.labels_n) for name, output in outputs.items()
        }
        first: FeatureSet | None = next(iter(outputs.values()), None)
        self.nearest = {} if reference is None else reference.nearest(images.images_nCHW, first)

    def means(self, chosen_n: Tensor, threshold: float) -> dict[str, float]:
        """Return means over the chosen images; `threshold` is the confidence of a counterfeit."""
        verifiers, labels_n = self.verifiers.items(), self.images.labels_n
        values = {
            "success": self.own.confidence_n >= threshold,
            "sure_of_any": self.own.max_probability_n >= threshold,
            "confidence": self.own.confidence_n,
            **{f"verified/{name}": of.predicted_n == labels_n for name, of in verifiers},
            **{f"verified_surely/{name}": of.confidence_n >= threshold for name, of in verifiers},
            **{kind: rows.distance_n for kind, rows in self.nearest.items()},
        }
        return {what: float(value_n[chosen_n].double().mean()) for what, value_n in values.items()}


class Counterfeits:
    """The inverted images whose class has at least a given probability under the classifier.

    Args:
        examined: The inverted images and each baseline, by name.
        least: The least confidence of a counterfeit.

    Attributes:
        index_n: Their indices among the inverted images, the most confident first.
    """

    def __init__(self, examined: dict[str, EvaluatedImages], least: float) -> None:
        self.examined, self.least = examined, least
        own = examined[INVERTED].own
        index_n = (own.confidence_n >= least).nonzero().flatten()
        self.index_n = index_n[own.log_odds_n[index_n].argsort(descending=True, stable=True)]

    @property
    def images(self) -> Images:
        """The counterfeits themselves."""
        of = self.examined[INVERTED].images
        targets_nN, generator_n = (
            None if values_n is None else values_n[self.index_n]
            for values_n in (of.targets_nN, of.generator_n)
        )
        index_n = self.index_n
        return Images(of.images_nCHW[index_n], of.labels_n[index_n], targets_nN, generator_n)

    def counts(self) -> dict[str, int]:
        """Number of images in each set."""
        counts = {name: len(of.images.labels_n) for name, of in self.examined.items()}
        return counts | {COUNTERFEITS: len(self.index_n)}

    def rows(self) -> dict[str, dict[str, float]]:
        """Means over each set. Without counterfeits they have no row."""
        rows = {
            name: of.means(torch.arange(len(of.images.labels_n)), self.least)
            for name, of in self.examined.items()
        }
        if len(self.index_n):
            rows[COUNTERFEITS] = self.examined[INVERTED].means(self.index_n, self.least)
        return rows

    def metrics(self) -> dict[str, float]:
        """Metric name to value."""
        rows, inverted = self.rows(), self.examined[INVERTED]
        metrics = {
            names.counterfeit(SHORT[name], what): value
            for name, row in rows.items()
            for what, value in row.items()
        }
        metrics[names.COUNTERFEIT_SUCCESS] = rows[INVERTED]["success"]
        if inverted.verifiers and len(self.index_n):
            label_n = inverted.images.labels_n
            agreeing = [of.predicted_n == label_n for of in inverted.verifiers.values()]
            recognised_n = torch.stack(agreeing).any(dim=0)[self.index_n]
            metrics[names.COUNTERFEIT_UNRECOGNISED] = float((~recognised_n).double().mean())
        return metrics
