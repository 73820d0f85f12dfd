"""OODL: one-class classifier on the layer that best separates outliers.

Shape suffixes: m training images, F values of a layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet, extract_features
from netinv_lightning.ood.detectors.fit_data import FitData
from netinv_lightning.ood.detectors.scorer import TunedScorer, tuning_auroc

REJECTED_SHARE = 0.05
"""Share of its training images that a one-class classifier may reject."""


@dataclass(frozen=True)
class OODL(TunedScorer):
    """One-class support vector machine on the features of the most discriminative layer.

    Abdelzad et al. 2019 (arXiv 1910.10307). The outputs of each layer are averaged over positions
    and standardised, and a one-class SVM is fitted to the training images. The chosen layer has the
    highest AUROC of validation images against tuning outliers; of equal layers it is the
    earliest. The paper chooses the layer by detection error, and does not average the outputs.

    Attributes:
        layer: Name of the chosen layer.
        one_class_svm: Its one-class classifier.
        auroc: AUROC of the chosen layer on the tuning images.
    """

    layer: str
    one_class_svm: Any
    auroc: float

    @classmethod
    def fit(cls, fit_data: FitData) -> OODL:
        training, inside, outside = (
            extract_features(fit_data.classifier, images_nCHW, pooled_layers=None)
            for images_nCHW in (
                fit_data.training_sample(),
                fit_data.validation.images_nCHW,
                fit_data.outliers.images_nCHW,
            )
        )

        def of_layers() -> Iterator[OODL]:
            for layer, training_mF in training.layers.items():
                one_class_svm = make_pipeline(StandardScaler(), OneClassSVM(nu=REJECTED_SHARE)).fit(
                    training_mF.double().numpy()
                )
                candidate = cls(layer, one_class_svm, 0.0)
                auroc = tuning_auroc(candidate(inside), candidate(outside))
                yield replace(candidate, auroc=auroc)

        return max(of_layers(), key=lambda candidate: candidate.auroc)

    @property
    def setting(self) -> str:
        return f"layer {self.layer}, AUROC {self.auroc:.3f}"

    @property
    def layers(self) -> tuple[str, ...]:
        return (self.layer,)

    def __call__(self, features: FeatureSet) -> Tensor:
        values_nF = features.layers[self.layer].double().numpy()
        return -torch.from_numpy(self.one_class_svm.decision_function(values_nF))
