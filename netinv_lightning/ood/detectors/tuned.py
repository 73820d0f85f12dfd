"""Scores that are tuned on validation images against stand-ins for outliers, higher = more out-of-distribution.

Shape suffixes: n images, m training images, B batch, C channels, H height, W width, N classes, F values of a layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_ood.detector import MaxSoftmax, odin_preprocessing  # type: ignore[import-untyped]
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from torch import Tensor

from netinv_lightning.classifiers.features import Seen, batches, look
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.ood.detectors.known import Known

TEMPERATURES = (1000.0, 100.0, 10.0, 1.0)
STEPS = (0.0, 0.001, 0.002, 0.004)
"""Of ODIN's perturbation, in pixels of [0, 1]; the published grid ends at 0.004."""
REJECTED = 0.05
"""Share of its training images that the one-class classifier of a layer may leave outside."""


@dataclass(frozen=True)
class Odin:
    """One less the greatest probability at a temperature, of the image after a step that makes it more confident (A5-3; Liang et al. 2018).

    Attributes:
        classifier: Gives the gradient.
        temperature: Divides the logits.
        step: Of each pixel of [0, 1], against the sign of the loss's gradient; 0 for none.
        auroc: Of the choice, validation images against stand-ins; near or below 0.5 the stand-ins have not told anything, take others.
    """

    classifier: FrozenClassifier
    temperature: float
    step: float
    auroc: float

    @classmethod
    def fit(cls, known: Known) -> Odin:
        """The best of all temperatures and steps; of equals the highest temperature, then the least step."""
        best: tuple[float, float, float] | None = None
        for temperature in TEMPERATURES:
            of_sets = [
                _by_step(known.classifier, seen, temperature)
                for seen in (known.validation, known.outliers)
            ]
            for step, inside_nN, outside_nN in zip(STEPS, *of_sets, strict=True):
                value = auroc(_softened(inside_nN, temperature), _softened(outside_nN, temperature))
                if best is None or value > best[0]:
                    best = value, temperature, step
        assert best is not None
        return cls(known.classifier, best[1], best[2], best[0])

    @property
    def told(self) -> str:
        return f"temperature {self.temperature:g}, step {self.step:g}, AUROC {self.auroc:.3f}"

    def __call__(self, seen: Seen) -> Tensor:
        if self.step == 0:
            return _softened(seen.logits_nN, self.temperature)
        logits = [
            _logits(self.classifier, x_BCHW - self.step * sign_BCHW)
            for x_BCHW, sign_BCHW in _signs(self.classifier, seen.images_nCHW, self.temperature)
        ]
        return _softened(torch.cat(logits), self.temperature)


@dataclass(frozen=True)
class BestLayer:
    """The layer whose features best tell outliers, and a one-class classifier on it: the slides' OODL (A5-4; Abdelzad et al. 2019).

    On each layer's output (maps averaged over positions, all standardised) a one-class support vector machine is fitted to training
    images. The layer is the one whose machine has the greatest AUROC of validation images against stand-ins for outliers; of equals the
    earliest. The paper searches by detection error, on outputs that are not averaged.

    Attributes:
        layer: The chosen layer.
        machine: Its one-class classifier.
        auroc: Of the choice.
    """

    layer: str
    machine: Any
    auroc: float

    @classmethod
    def fit(cls, known: Known) -> BestLayer:
        sets = (known.of_training(), known.validation.images_nCHW, known.outliers.images_nCHW)
        training, inside, outside = (
            look(known.classifier, images_nCHW, None) for images_nCHW in sets
        )
        best: BestLayer | None = None
        for layer, training_mF in training.layers.items():
            machine = make_pipeline(StandardScaler(), OneClassSVM(nu=REJECTED)).fit(
                training_mF.double().numpy()
            )
            of_layer = cls(layer, machine, 0.0)
            value = auroc(of_layer(inside), of_layer(outside))
            if best is None or value > best.auroc:
                best = cls(layer, machine, value)
        assert best is not None
        return best

    @property
    def told(self) -> str:
        return f"layer {self.layer}, AUROC {self.auroc:.3f}"

    def __call__(self, seen: Seen) -> Tensor:
        return -torch.from_numpy(
            self.machine.decision_function(seen.layers[self.layer].double().numpy())
        )


def auroc(inside_n: Tensor, outside_n: Tensor) -> float:
    """How often an outlier scores above an image of the distribution; ties count half. Rounded, so that equals are equal."""
    value = roc_auc_score(
        [0] * len(inside_n) + [1] * len(outside_n), torch.cat([inside_n, outside_n]).numpy()
    )
    return round(float(value), 9)


def _softened(logits_nN: Tensor, temperature: float) -> Tensor:
    score_n: Tensor = 1 + MaxSoftmax.score(logits_nN.double(), temperature)
    return score_n


def _by_step(classifier: FrozenClassifier, seen: Seen, temperature: float) -> list[Tensor]:
    """Logits [n, N] after each of `STEPS`, from one gradient."""
    logits: list[list[Tensor]] = [[] for _ in STEPS]
    for x_BCHW, sign_BCHW in _signs(classifier, seen.images_nCHW, temperature):
        for step, of_step in zip(STEPS[1:], logits[1:], strict=True):
            of_step.append(_logits(classifier, x_BCHW - step * sign_BCHW))
    return [seen.logits_nN] + [torch.cat(of_step) for of_step in logits[1:]]


def _signs(
    classifier: FrozenClassifier, images_nCHW: Tensor, temperature: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches, and the sign of the gradient of the loss towards their own decisions: what a step of 1 takes away."""
    for x_BCHW in batches(classifier, images_nCHW):
        yield (
            x_BCHW,
            x_BCHW - odin_preprocessing(classifier, x_BCHW, eps=1.0, temperature=temperature),
        )


@torch.no_grad()
def _logits(classifier: FrozenClassifier, x_BCHW: Tensor) -> Tensor:
    return classifier(x_BCHW).float().cpu()
