"""All detectors by name, behind one interface.

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from netinv_lightning.classifiers.features import Seen, look
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.errors import InputError, nearest
from netinv_lightning.ood.detectors import scores
from netinv_lightning.ood.detectors.density import Cluster, Mixture
from netinv_lightning.ood.detectors.fitted import Mahalanobis, Neighbour, Outside, VirtualLogit
from netinv_lightning.ood.detectors.known import Known
from netinv_lightning.ood.detectors.reconstruction import Reconstruction
from netinv_lightning.ood.detectors.tuned import BestLayer, Odin

Rule = Callable[[Seen], Tensor]
"""From what a classifier sees in images to their scores, [n] in double precision."""

OF_LOGITS: dict[str, Callable[[Tensor], Tensor]] = {
    "msp": scores.msp,
    "max_logit": scores.max_logit,
    "energy": scores.energy,
    "gen": scores.gen,
    "uncertainty": scores.uncertainty,
}
OF_FEATURES: dict[str, Callable[[Known], Rule]] = {
    "lc": Outside.fit,
    "mahalanobis": Mahalanobis.fit,
    "knn": Neighbour.fit,
    "vim": VirtualLogit.fit,
    "gmm": Mixture.fit,
    "cluster": Cluster.fit,
}
"""These need the penultimate features; no others do."""
OF_IMAGES: dict[str, Callable[[Known], Rule]] = {"autoencoder": Reconstruction.fit}
TUNED: dict[str, Callable[[Known], Rule]] = {"odin": Odin.fit, "oodl": BestLayer.fit}


@dataclass(frozen=True)
class OfLogits:
    """A score of the logits alone."""

    of: Callable[[Tensor], Tensor]

    def __call__(self, seen: Seen) -> Tensor:
        return self.of(seen.logits_nN)


def _unfitted(of: Callable[[Tensor], Tensor]) -> Callable[[Known], Rule]:
    return lambda known: OfLogits(of)


DETECTORS: dict[str, Callable[[Known], Rule]] = (
    {name: _unfitted(of) for name, of in OF_LOGITS.items()} | OF_FEATURES | OF_IMAGES | TUNED
)
"""What fits each detector, by name; see `fit`."""


@dataclass(frozen=True)
class Detector:
    """A fitted detector.

    Attributes:
        name: One of `DETECTORS`.
        classifier: The classifier whose view of images is scored.
        rule: The score; holds what was fitted, such as ODIN's temperature.
    """

    name: str
    classifier: FrozenClassifier
    rule: Rule

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers beside the last whose outputs it needs of `look`."""
        return (self.rule.layer,) if isinstance(self.rule, BestLayer) else ()

    def score(self, images_nCHW: Tensor) -> Tensor:
        """Scores images in [0, 1]: [n], in double precision, higher = more out-of-distribution.

        Raises:
            InputError: if they are not images of the classifier's shape in [0, 1].
        """
        return self.rule(look(self.classifier, images_nCHW, self.layers))


def fit(name: str, known: Known) -> Detector:
    """Fits one of `DETECTORS`.

    Raises:
        InputError: if there is none of that name, or it needs penultimate features and the network has none.
    """
    if name not in DETECTORS:
        raise InputError(
            f"application.detectors={name}: no such detector; {nearest(name, DETECTORS)}"
        )
    if name in OF_FEATURES and known.training.features_nD is None:
        raise InputError(
            f"application.detectors={name}: needs penultimate features, and the network has neither linear layers nor convolutions; "
            f"choose from: {', '.join(sorted({*DETECTORS} - {*OF_FEATURES}))}"
        )
    return Detector(name, known.classifier, DETECTORS[name](known))


def score_all(detectors: Mapping[str, Detector], images_nCHW: Tensor) -> dict[str, Tensor]:
    """Scores [n] of images by several detectors of one classifier, which sees them once; ODIN passes them on its own too.

    Raises:
        InputError: if they are not images of the classifier's shape in [0, 1].
    """
    classifier = next(iter(detectors.values())).classifier
    seen = look(
        classifier,
        images_nCHW,
        [layer for detector in detectors.values() for layer in detector.layers],
    )
    return {name: detector.rule(seen) for name, detector in detectors.items()}
