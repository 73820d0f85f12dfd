"""Counterfeits: images that a classifier takes for their class with confidence, and how far they are from real ones (A4-12).

Shape suffixes: n images, m reference images, D values an image, P pixels, C channels, H height, W width, N classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.measurement import Seen, look

ROWS = 250  # of a matrix of distances at a time


@dataclass(frozen=True)
class Opinion:
    """What a network thinks of images that were made to be of a class.

    Attributes:
        confidence_n: Probability of that class, in [0, 1].
        log_odds_n: Its log-odds, which tell apart the confidences that float32 rounds to 1.
        predicted_n: The most probable class.
        surest_n: Probability of the most probable class.
    """

    confidence_n: Tensor
    log_odds_n: Tensor
    predicted_n: Tensor
    surest_n: Tensor


def opinion(logits_nN: Tensor, label_n: Tensor) -> Opinion:
    """Reads the logits of images that are to be of the classes `label_n`."""
    logits_nN = logits_nN.double()
    others_nN = logits_nN.scatter(1, label_n[:, None], -torch.inf)
    log_odds_n = logits_nN.gather(1, label_n[:, None])[:, 0] - others_nN.logsumexp(dim=1)
    surest_n, predicted_n = logits_nN.softmax(dim=1).max(dim=1)
    return Opinion(log_odds_n.sigmoid(), log_odds_n, predicted_n, surest_n)


@dataclass(frozen=True)
class Neighbours:
    """The nearest reference image of each image.

    Attributes:
        distance_n: How far it is.
        index_n: Which it is.
    """

    distance_n: Tensor
    index_n: Tensor


def nearest(value_nD: Tensor, reference_mD: Tensor) -> Neighbours:
    """The nearest row of the reference, by Euclidean distance."""
    index_n = torch.cat(
        [torch.cdist(part, reference_mD).argmin(dim=1) for part in value_nD.split(ROWS)]
    )
    return Neighbours(
        (value_nD - reference_mD[index_n]).norm(dim=1), index_n
    )  # again, without the rounding of cdist's matrix product


class Reference:
    """Real images, by which distances are told in three ways: pixels, correlation, features of another network.

    Args:
        images_mCHW: In [0, 1].
        features_mD: What another network makes of them; None where there is none.
    """

    def __init__(self, images_mCHW: Tensor, features_mD: Tensor | None = None) -> None:
        self.images_mCHW, self.features_mD = images_mCHW, features_mD

    def neighbours(self, images_nCHW: Tensor, seen: Seen | None = None) -> dict[str, Neighbours]:
        """The nearest image of each kind.

        Args:
            images_nCHW: In [0, 1].
            seen: What the same other network makes of them.

        Returns:
            `rms`: root mean square difference of a pixel, in [0, 1]. `correlation`: normalised cross-correlation, in [-1, 1], not a
            distance: higher is nearer. `feature`: Euclidean distance of the features, where a network is given.
        """
        x_nP, reference_mP = images_nCHW.flatten(1), self.images_mCHW.flatten(1)
        pixels, shapes = (
            nearest(x_nP, reference_mP),
            nearest(unit_rows(x_nP), unit_rows(reference_mP)),
        )
        found = {
            "rms": Neighbours(pixels.distance_n / x_nP.shape[1] ** 0.5, pixels.index_n),
            "correlation": Neighbours(1 - shapes.distance_n.square() / 2, shapes.index_n),
        }
        if self.features_mD is not None and seen is not None:
            found["feature"] = nearest(seen.features_nD.float(), self.features_mD)
        return found


def unit_rows(x_nP: Tensor) -> Tensor:
    """Pixels of mean 0 and norm 1 in each row; an image of one colour is 0."""
    return F.normalize(x_nP - x_nP.mean(dim=1, keepdim=True), dim=1)


class Examined:
    """A set of images, and what every network makes of it.

    Args:
        images: The set.
        classifier: The one under attack.
        verifiers: Other networks, by name.
        reference: Real images, for distances; None where they are not at hand.
    """

    def __init__(
        self,
        images: Images,
        classifier: FrozenClassifier,
        verifiers: dict[str, FrozenClassifier],
        reference: Reference | None,
    ) -> None:
        self.images = images
        self.own = opinion(look(classifier, images.images_nCHW).logits_nN, images.labels_n)
        seen = {name: look(verifier, images.images_nCHW) for name, verifier in verifiers.items()}
        self.verifiers = {name: opinion(of.logits_nN, images.labels_n) for name, of in seen.items()}
        first: Seen | None = next(iter(seen.values()), None)
        self.neighbours = (
            {} if reference is None else reference.neighbours(images.images_nCHW, first)
        )

    def numbers(self, chosen_n: Tensor, least: float) -> dict[str, float]:
        """Means over the chosen images; `least` is the confidence that a counterfeit needs."""
        values = {
            "success": self.own.confidence_n >= least,
            "sure_of_any": self.own.surest_n >= least,
            "confidence": self.own.confidence_n,
            **{
                f"verified/{name}": of.predicted_n == self.images.labels_n
                for name, of in self.verifiers.items()
            },
            **{
                f"verified_surely/{name}": of.confidence_n >= least
                for name, of in self.verifiers.items()
            },
            **{kind: of.distance_n for kind, of in self.neighbours.items()},
        }
        return {what: float(value_n[chosen_n].double().mean()) for what, value_n in values.items()}
