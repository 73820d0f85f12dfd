"""All detectors by name, behind one interface.

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet, extract_features
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.errors import InputError, nearest
from netinv_lightning.ood.detectors.autoencoder import AutoencoderError
from netinv_lightning.ood.detectors.combination import Combination
from netinv_lightning.ood.detectors.feature_detectors import (
    FDBD,
    NAC,
    NCI,
    PNML,
    RMD,
    SHE,
    GradNorm,
    NNGuide,
)
from netinv_lightning.ood.detectors.fit_data import FitData
from netinv_lightning.ood.detectors.gmm import GMM
from netinv_lightning.ood.detectors.gram import Gram
from netinv_lightning.ood.detectors.kmeans import KMeansDistance
from netinv_lightning.ood.detectors.knn import KNN
from netinv_lightning.ood.detectors.linear_classifier import LinearClassifierScore
from netinv_lightning.ood.detectors.logit_scores import (
    energy,
    entropy,
    gen,
    max_logit,
    msp,
    uncertainty,
)
from netinv_lightning.ood.detectors.logits_detectors import (
    KLMatching,
    OpenMax,
    TemperatureScaling,
)
from netinv_lightning.ood.detectors.mahalanobis import Mahalanobis
from netinv_lightning.ood.detectors.odin import ODIN
from netinv_lightning.ood.detectors.oodl import OODL
from netinv_lightning.ood.detectors.scorer import FittedScorer, Scorer
from netinv_lightning.ood.detectors.shaped_features import ASH, DICE, LTS, SCALE, VRA, ReAct
from netinv_lightning.ood.detectors.vim import ViM
from netinv_lightning.training.progress import stages

LOGIT_SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "msp": msp,
    "max_logit": max_logit,
    "energy": energy,
    "gen": gen,
    "uncertainty": uncertainty,
    "entropy": entropy,
}
"""Functions from logits [n, N] to scores [n]; nothing is fitted."""
SCORERS: dict[str, type[FittedScorer]] = {
    "lc": LinearClassifierScore,
    "mahalanobis": Mahalanobis,
    "knn": KNN,
    "vim": ViM,
    "gmm": GMM,
    "cluster": KMeansDistance,
    "autoencoder": AutoencoderError,
    "odin": ODIN,
    "oodl": OODL,
    "kl_matching": KLMatching,
    "openmax": OpenMax,
    "temperature_scaling": TemperatureScaling,
    "rmd": RMD,
    "fdbd": FDBD,
    "she": SHE,
    "nci": NCI,
    "nnguide": NNGuide,
    "pnml": PNML,
    "gradnorm": GradNorm,
    "nac": NAC,
    "react": ReAct,
    "dice": DICE,
    "ash": ASH,
    "scale": SCALE,
    "vra": VRA,
    "lts": LTS,
    "gram": Gram,
    "combination": Combination,
}
"""Classes that are fitted on `FitData`."""
DETECTORS = (*LOGIT_SCORES, *SCORERS)


@dataclass(frozen=True)
class LogitScorer(Scorer):
    """A score of the logits alone.

    Attributes:
        score_logits: One of `LOGIT_SCORES`.
    """

    score_logits: Callable[[Tensor], Tensor]

    def __call__(self, features: FeatureSet) -> Tensor:
        return self.score_logits(features.logits_nN)


@dataclass(frozen=True)
class Detector:
    """A fitted detector.

    Attributes:
        name: One of `DETECTORS`, or the name of a classifier with a garbage class.
        classifier: The classifier whose outputs are scored.
        scorer: The fitted score.
        calibration_nCHW: In-distribution images in [0, 1] that give the thresholds: the validation
            images of its run, up to 250 of which chose the setting if it is tuned. None if there
            are none.
    """

    name: str
    classifier: FrozenClassifier
    scorer: Scorer
    calibration_nCHW: Tensor | None = None

    def score(self, images_nCHW: Tensor) -> Tensor:
        """Score images in [0, 1]: [n], in double precision, higher = more out-of-distribution.

        Raises:
            InputError: if they are not images of the classifier's shape in [0, 1].
        """
        return self.scorer(
            extract_features(self.classifier, images_nCHW, pooled_layers=self.scorer.layers)
        )

    def threshold(self, accepted: float = 0.95, images_nCHW: Tensor | None = None) -> float:
        """Return the threshold that accepts a share of in-distribution images.

        An image with a score above it is out-of-distribution. The threshold is a conformal quantile
        (Vovk, Gammerman and Shafer 2005, section 2.2): a new image of the same distribution is
        accepted with at least this probability.

        Args:
            accepted: Share of in-distribution images to accept, above 0 and below 1.
            images_nCHW: In-distribution images in [0, 1] that neither the classifier nor the
                detector was fitted on; None for the validation images of the run.

        Raises:
            InputError: if there are no or too few images, or the share is out of range.
        """
        if not 0 < accepted < 1:
            raise InputError(f"accepted={accepted}: must be above 0 and below 1, such as 0.95")
        images_nCHW = self.calibration_nCHW if images_nCHW is None else images_nCHW
        if images_nCHW is None:
            raise InputError("images: are missing; pass in-distribution images to set a threshold")
        n, rank = len(images_nCHW), math.ceil(round((len(images_nCHW) + 1) * accepted, 6))
        if rank > n:
            needed = math.ceil(round(accepted / (1 - accepted), 6))
            raise InputError(
                f"accepted={accepted}: needs at least {needed} images, got {n}; "
                "pass more in-distribution images, or accept fewer"
            )
        return float(self.score(images_nCHW).sort().values[rank - 1])


def fit_detector(name: str, fit_data: FitData) -> Detector:
    """Fit one of `DETECTORS`.

    Raises:
        InputError: if the name is unknown, or the network lacks the penultimate features that the
            detector needs.
    """
    if name not in DETECTORS:
        raise InputError(
            f"application.detectors={name}: no such detector; {nearest(name, DETECTORS)}"
        )
    if name in LOGIT_SCORES:
        return Detector(name, fit_data.classifier, LogitScorer(LOGIT_SCORES[name]))
    if SCORERS[name].needs_features and not fit_data.training.has_features:
        others = {*DETECTORS} - {name for name, of in SCORERS.items() if of.needs_features}
        raise InputError(
            f"application.detectors={name}: needs penultimate features, and the network has "
            f"neither linear layers nor convolutions; choose from: {', '.join(sorted(others))}"
        )
    return Detector(name, fit_data.classifier, SCORERS[name].fit(fit_data))


def fit_detectors(detectors: Sequence[str], fit_data: FitData) -> dict[str, Detector]:
    """Fit several of `DETECTORS`; print the name of each.

    Raises:
        InputError: as `fit_detector`.
    """
    fitted = {}
    for name in stages("fitting detector", detectors):
        fitted[name] = fit_detector(name, fit_data)
    return fitted


def extract_for(detectors: Mapping[str, Detector], images_nCHW: Tensor) -> FeatureSet:
    """Run the common classifier of all `detectors` once; return all outputs that they need.

    Raises:
        InputError: if they are not images of the classifier's shape in [0, 1].
    """
    classifier = next(iter(detectors.values())).classifier
    layers = [layer for detector in detectors.values() for layer in detector.scorer.layers]
    return extract_features(classifier, images_nCHW, pooled_layers=layers)


def score_all(detectors: Mapping[str, Detector], features: FeatureSet) -> dict[str, Tensor]:
    """Return the scores [n] of each detector; only ODIN and Gram run the
    classifier again."""
    return {name: detector.scorer(features) for name, detector in detectors.items()}
