"""Telling inverted from real samples by what a sparse autoencoder makes of their features (A4-5).

S2 section 5.1: "the set of features activated for the training data differs from those activated for random inverted samples
even within the same class, suggesting that this approach could potentially be used in anomaly detection". Detectors that know real
training data alone, and one that has seen inverted samples, stand each beside the same without an autoencoder, and beside a pair
of origins that should not be told apart: test and training data.

Shape suffixes: n samples, m other samples, D features, M hidden units, N classes, R points of a curve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from netinv_lightning.interpretability.activations import reconstruction_by_pca, unit_activations
from netinv_lightning.interpretability.autoencoders import KSparse
from netinv_lightning.metrics.detection import auroc_interval
from netinv_lightning.training.seeds import random_order

CONTROLS = {
    "reconstruction": "reconstruction_pca",
    "pattern": "pattern_features",
    "regression": "regression_features",
}
"""Detectors that use an autoencoder, and what each is compared with: the same idea without one."""


@dataclass(frozen=True)
class Samples:
    """Features of samples of one origin, and the class that the classifier takes each for."""

    features_nD: Tensor
    class_n: Tensor

    def split(self, share: float, seed: int) -> tuple[Samples, Samples]:
        """A random `share` of the samples, and the others."""
        order = random_order(len(self.class_n), seed)
        first, second = order.tensor_split([round(share * len(order))])
        return Samples(self.features_nD[first], self.class_n[first]), Samples(
            self.features_nD[second], self.class_n[second]
        )


@dataclass(frozen=True)
class Separation:
    """How well one number tells two sets of samples apart."""

    auc: float
    """Area under the ROC curve: how often a random anomalous sample has the higher score; 0.5 is chance, below it they have the lower."""
    low: float
    high: float
    """Ends of the 95 % bootstrap interval."""
    false_positive_R: Tensor
    true_positive_R: Tensor


@dataclass(frozen=True)
class Detector:
    """What one score reaches on samples that nothing was fitted on."""

    inverted: Separation
    """Inverted samples against real test samples."""
    control: Separation
    """Real test samples against real training samples held out of every fit: about 0.5 unless the score tells more than origin."""


def separation(anomalous_n: Tensor, normal_m: Tensor, seed: int) -> Separation:
    """Measures how far the scores of anomalous samples lie above those of normal ones.

    The interval is the percentile bootstrap's, over 1,000 resamples of either set; what was fitted is kept, so it tells the spread
    of the samples and not of training. Where no scores overlap it is 1 to 1, which is narrower than the truth.

    Args:
        anomalous_n: Scores that should be high.
        normal_m: Scores that should be low.
        seed: Of the resamples.
    """
    score = torch.cat([anomalous_n, normal_m]).double().numpy()
    is_anomalous = np.arange(len(score)) < len(anomalous_n)
    false_positive_R, true_positive_R, _ = roc_curve(is_anomalous, score)
    low, high = auroc_interval(normal_m, anomalous_n, seed)
    return Separation(
        auc=float(roc_auc_score(is_anomalous, score)),
        low=low,
        high=high,
        false_positive_R=torch.from_numpy(false_positive_R).float(),
        true_positive_R=torch.from_numpy(true_positive_R).float(),
    )


def detect(
    training_fit: Samples,
    training_held: Samples,
    test: Samples,
    inverted_fit: Samples,
    inverted_held: Samples,
    real: KSparse,
    shared: KSparse,
    num_classes: int,
    seed: int,
) -> dict[str, Detector]:
    """Tells inverted from real test samples by several scores; a high one says "inverted".

    - `reconstruction`: share of a sample's squared distance to the training mean that `real` leaves unexplained.
    - `pattern`: cosine distance of a sample's activations in `real` to the mean activations of the training data of the class that the
      classifier takes it for; 1 for a class without training data. Neither of these two knows an inverted sample.
    - `regression`: logistic regression on the activations in `shared`, fitted on training data against inverted samples.
    - `reconstruction_pca`, `pattern_features`, `regression_features`: the same by as many principal components as `real` has active units,
      and on the plain (centred) features.

    Args:
        training_fit: Real training samples: all that scores of real data are fitted on.
        training_held: Other real training samples, for the control.
        test: Real test samples.
        inverted_fit: Inverted samples that `shared` and the regressions may know.
        inverted_held: Other inverted samples.
        real: Trained on the features of `training_fit` alone.
        shared: Trained on those of `training_fit` and `inverted_fit`.
        num_classes: N.
        seed: Of the bootstrap.

    Returns:
        The detectors by the names above.
    """
    known_nD = training_fit.features_nD
    scores = {
        "reconstruction": _reconstruction(lambda f_nD: _reconstructed(real, f_nD), training_fit),
        "pattern": _pattern(lambda f_nD: unit_activations(real, f_nD), training_fit, num_classes),
        "regression": _regression(
            lambda f_nD: unit_activations(shared, f_nD), training_fit, inverted_fit
        ),
        "reconstruction_pca": _reconstruction(
            lambda f_nD: reconstruction_by_pca(known_nD, f_nD, real.active), training_fit
        ),
        "pattern_features": _pattern(
            lambda f_nD: f_nD - known_nD.mean(dim=0), training_fit, num_classes
        ),
        "regression_features": _regression(lambda f_nD: f_nD, training_fit, inverted_fit),
    }
    detectors = {}
    for name, score in scores.items():
        test_n = score(test)
        detectors[name] = Detector(
            separation(score(inverted_held), test_n, seed),
            separation(test_n, score(training_held), seed),
        )
    return detectors


Score = Callable[[Samples], Tensor]


@torch.no_grad()
def _reconstructed(model: KSparse, f_nD: Tensor) -> Tensor:
    reconstructed_nD: Tensor = model(f_nD)
    return reconstructed_nD


def _reconstruction(reconstruct: Callable[[Tensor], Tensor], fitted: Samples) -> Score:
    mean_D = fitted.features_nD.mean(dim=0)

    def score(samples: Samples) -> Tensor:
        f_nD = samples.features_nD
        return (reconstruct(f_nD) - f_nD).square().sum(dim=1) / (f_nD - mean_D).square().sum(dim=1)

    return score


def _pattern(of_features: Callable[[Tensor], Tensor], fitted: Samples, num_classes: int) -> Score:
    pattern_nM = of_features(fitted.features_nD)
    # A sum points where the mean does, and is 0 for a class without training data.
    sums_NM = torch.zeros(num_classes, pattern_nM.shape[1]).index_add(0, fitted.class_n, pattern_nM)

    def score(samples: Samples) -> Tensor:
        return 1 - F.cosine_similarity(
            of_features(samples.features_nD), sums_NM[samples.class_n], dim=1
        )

    return score


def _regression(of_features: Callable[[Tensor], Tensor], real: Samples, inverted: Samples) -> Score:
    known_nM = torch.cat([of_features(real.features_nD), of_features(inverted.features_nD)]).numpy()
    regression = make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cholesky"))
    regression.fit(known_nM, np.arange(len(known_nM)) >= len(real.class_n))

    def score(samples: Samples) -> Tensor:
        return torch.from_numpy(
            regression.decision_function(of_features(samples.features_nD).numpy())
        )

    return score
