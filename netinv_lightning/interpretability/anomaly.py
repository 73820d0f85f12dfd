"""Detection of inverted samples from the activations of a sparse autoencoder.

Suhail, Tang and Sethi (2024, arXiv 2411.17777, section 5.1): "the set of features activated for the
training data differs from those activated for random inverted samples even within the same class,
suggesting that this approach could potentially be used in anomaly detection". Two scores are fitted
on real training data alone, one also on inverted samples. Each is compared with the same score
without an autoencoder, and with a control: the separation of test from training data, which should
not be possible.

Shape suffixes: n samples, m other samples, D features, M hidden units, N classes, R points of a
curve.
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

from netinv_lightning.data.splits import class_sums
from netinv_lightning.interpretability.activations import reconstruction_by_pca, unit_activations
from netinv_lightning.interpretability.autoencoders import KSparse
from netinv_lightning.metrics.detection import auroc_interval
from netinv_lightning.training.seeds import random_order

CONTROLS = {
    "reconstruction": "reconstruction_pca",
    "pattern": "pattern_features",
    "regression": "regression_features",
}
"""Scores that use an autoencoder, each with the same score without one."""


@dataclass(frozen=True)
class Samples:
    """Features of samples of one origin, and the classes that the classifier predicts for them."""

    features_nD: Tensor
    class_n: Tensor

    def split(self, share: float, seed: int) -> tuple[Samples, Samples]:
        """Split at random into a `share` of the samples and the rest."""
        order = random_order(len(self.class_n), seed)
        first, second = order.tensor_split([round(share * len(order))])
        return Samples(self.features_nD[first], self.class_n[first]), Samples(
            self.features_nD[second], self.class_n[second]
        )


@dataclass(frozen=True)
class Separation:
    """How well a score separates two sets of samples."""

    auc: float
    """Area under the ROC curve: probability that a random anomalous sample has the higher score.
    0.5 is chance; below 0.5 anomalous samples have lower scores.
    """
    low: float
    high: float
    """Ends of the 95 % bootstrap interval."""
    false_positive_R: Tensor
    true_positive_R: Tensor


@dataclass(frozen=True)
class DetectorResult:
    """Separation by one score, on samples that nothing was fitted on."""

    inverted: Separation
    """Inverted samples against real test samples."""
    control: Separation
    """Real test samples against held-out real training samples. About 0.5 unless the score depends
    on more than the origin.
    """


def separation(anomalous_n: Tensor, normal_m: Tensor, seed: int) -> Separation:
    """Measure how well scores separate anomalous from normal samples.

    The interval is a percentile bootstrap over 1,000 resamples of each set. The fitted models stay
    fixed, so it covers the variation of the samples and not of training. If the scores do not
    overlap, it is [1, 1], which is too narrow.

    Args:
        anomalous_n: Scores that should be high.
        normal_m: Scores that should be low.
        seed: Seed of the resamples.
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
) -> dict[str, DetectorResult]:
    """Separate inverted from real test samples by several scores; a high score means "inverted".

    - `reconstruction`: share of a sample's squared distance to the training mean that `real` leaves
      unexplained.
    - `pattern`: cosine distance between a sample's activations in `real` and the mean activations
      of the training data of its predicted class; 1 for a class without training data. These two
      scores are fitted without inverted samples.
    - `regression`: logistic regression on the activations in `shared`, fitted on training data
      against inverted samples.
    - `reconstruction_pca`, `pattern_features`, `regression_features`: the same with as many
      principal components as `real` has active units, and on the plain (centred) features.

    Args:
        training_fit: Real training samples; scores of real data are fitted on these alone.
        training_held: Other real training samples, for the control.
        test: Real test samples.
        inverted_fit: Inverted samples for `shared` and the regressions.
        inverted_held: Other inverted samples.
        real: Autoencoder trained on the features of `training_fit`.
        shared: Autoencoder trained on the features of `training_fit` and `inverted_fit`.
        num_classes: N.
        seed: Seed of the bootstrap.

    Returns:
        The results by the names above.
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
        detectors[name] = DetectorResult(
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
    # The sum has the direction of the mean, and is 0 for a class without training data.
    sums_NM = class_sums(pattern_nM, fitted.class_n, num_classes)

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
