"""ODIN: softmax with temperature on perturbed images.

Shape suffixes: n images, B batch, C channels, H height, W width, N classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from pytorch_ood.detector import MaxSoftmax, odin_preprocessing  # type: ignore[import-untyped]
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet, batches
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.ood.detectors.fit_data import FitData
from netinv_lightning.ood.detectors.scorer import TunedScorer, tuning_auroc

TEMPERATURES = (1000.0, 100.0, 10.0, 1.0)
STEPS = (0.0, 0.001, 0.002, 0.004)
"""Sizes of the perturbation, in pixels of [0, 1]; the published grid ends at 0.004."""


@dataclass(frozen=True)
class ODIN(TunedScorer):
    """One minus the maximum softmax probability, with temperature and perturbed images.

    Liang et al. 2018 (arXiv 1706.02690).

    Attributes:
        classifier: The classifier whose gradient gives the step.
        temperature: Divisor of the logits.
        step: Change of each pixel of [0, 1], against the sign of the gradient of the loss; 0 for
            none.
        auroc: AUROC of this setting, validation images against tuning outliers.
    """

    classifier: FrozenClassifier
    temperature: float
    step: float
    auroc: float

    @classmethod
    def fit(cls, fit_data: FitData) -> ODIN:
        """Choose the best setting; on ties the highest temperature, then the smallest step."""
        best: tuple[float, float, float] | None = None
        for temperature in TEMPERATURES:
            logits_of_sets = [
                _logits_by_step(fit_data.classifier, features, temperature)
                for features in (fit_data.validation, fit_data.outliers)
            ]
            for step, inside_nN, outside_nN in zip(STEPS, *logits_of_sets, strict=True):
                value = tuning_auroc(
                    _softmax_score(inside_nN, temperature), _softmax_score(outside_nN, temperature)
                )
                if best is None or value > best[0]:
                    best = value, temperature, step
        assert best is not None
        return cls(fit_data.classifier, best[1], best[2], best[0])

    @property
    def setting(self) -> str:
        return f"temperature {self.temperature:g}, step {self.step:g}, AUROC {self.auroc:.3f}"

    def __call__(self, features: FeatureSet) -> Tensor:
        if self.step == 0:
            return _softmax_score(features.logits_nN, self.temperature)
        logits = [
            _logits(self.classifier, x_BCHW - self.step * sign_BCHW)
            for x_BCHW, sign_BCHW in _gradient_signs(
                self.classifier, features.images_nCHW, self.temperature
            )
        ]
        return _softmax_score(torch.cat(logits), self.temperature)


def _softmax_score(logits_nN: Tensor, temperature: float) -> Tensor:
    score_n: Tensor = 1 + MaxSoftmax.score(logits_nN.double(), temperature)
    return score_n


def _logits_by_step(
    classifier: FrozenClassifier, features: FeatureSet, temperature: float
) -> list[Tensor]:
    """Return the logits [n, N] after each of `STEPS`, from one gradient."""
    logits: list[list[Tensor]] = [[] for _ in STEPS]
    for x_BCHW, sign_BCHW in _gradient_signs(classifier, features.images_nCHW, temperature):
        for step, logits_of_step in zip(STEPS[1:], logits[1:], strict=True):
            logits_of_step.append(_logits(classifier, x_BCHW - step * sign_BCHW))
    return [features.logits_nN] + [torch.cat(logits_of_step) for logits_of_step in logits[1:]]


def _gradient_signs(
    classifier: FrozenClassifier, images_nCHW: Tensor, temperature: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches and the sign of the gradient of the loss towards the predicted class."""
    for x_BCHW in batches(classifier, images_nCHW):
        moved_BCHW = odin_preprocessing(classifier, x_BCHW, eps=1.0, temperature=temperature)
        yield x_BCHW, x_BCHW - moved_BCHW


@torch.no_grad()
def _logits(classifier: FrozenClassifier, x_BCHW: Tensor) -> Tensor:
    return classifier(x_BCHW).float().cpu()
