"""Density of penultimate features under a Gaussian mixture model.

Shape suffixes: n images, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.ood.detectors.fit_data import FitData
from netinv_lightning.ood.detectors.scorer import FittedScorer

COMPONENTS = (1, 2, 4, 8, 16, 32, 64)
LEAST_VARIANCE = 1e-3
"""Variance added to each axis of a component, as a share of the mean variance of the features: test
features may vary where training features do not."""
MAX_EM_STEPS = 500
"""Most steps of expectation maximisation; classifiers of the zoo need up to 80."""


@dataclass(frozen=True)
class GMM(FittedScorer):
    """Negative log-likelihood of the features, in nats, under a Gaussian mixture.

    No labels are used. The features are rotated to their principal axes and divided by one number,
    the root of their mean variance. The covariances are diagonal in these axes. A full covariance
    has D^2 / 2 parameters, for D = 128 more than there are images: ten full Gaussians fit training
    images better than test images by 38 nats (mnist_cnn), ten diagonal ones by 1.2. No axis is
    dropped, because outliers may vary where training features do not; `LEAST_VARIANCE` keeps the
    likelihood finite there. The number of components (1 to 64) has the lowest Bayesian information
    criterion on the training features.

    Attributes:
        mean_D: Mean of the training features.
        axes_DD: Their principal axes, in columns, divided by the root of their mean variance.
        mixture: The Gaussian mixture.
    """

    mean_D: np.ndarray
    axes_DD: np.ndarray
    mixture: GaussianMixture
    needs_features: ClassVar[bool] = True

    @classmethod
    def fit(cls, fit_data: FitData) -> GMM:
        features_nD = fit_data.training.features_nD.double().numpy()
        mean_D = features_nD.mean(axis=0)
        with threadpool_limits(1):  # the result must not depend on the number of cores
            variance_D, axes_DD = np.linalg.eigh(
                (features_nD - mean_D).T @ (features_nD - mean_D) / len(features_nD)
            )
            axes_DD /= variance_D.mean() ** 0.5
            rotated_nD = (features_nD - mean_D) @ axes_DD
            mixtures = [
                GaussianMixture(
                    components,
                    covariance_type="diag",
                    reg_covar=LEAST_VARIANCE,
                    max_iter=MAX_EM_STEPS,
                    random_state=fit_data.seed,
                )
                for components in COMPONENTS
                if components <= len(rotated_nD)
            ]
            best = min(mixtures, key=lambda mixture: mixture.fit(rotated_nD).bic(rotated_nD))
        return cls(mean_D, axes_DD, best)

    def __call__(self, features: FeatureSet) -> Tensor:
        rotated_nD = (features.features_nD.double().numpy() - self.mean_D) @ self.axes_DD
        return -torch.from_numpy(self.mixture.score_samples(rotated_nD))
