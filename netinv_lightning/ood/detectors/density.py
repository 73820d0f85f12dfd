"""Density and clusters of the training images' penultimate features, higher score = more out-of-distribution (A5-6).

Shape suffixes: n images, D features, k centres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from netinv_lightning.classifiers.features import Seen
from netinv_lightning.ood.detectors.known import Known

COMPONENTS = (1, 2, 4, 8, 16, 32, 64)
LEAST_VARIANCE = 1e-3
"""Of a component along an axis, as a share of the features' mean variance: where training features do not vary, others may by so much."""
STEPS = 500
"""Of expectation maximisation, at most; classifiers of the zoo need up to 80."""
STARTS = 10


@dataclass(frozen=True)
class Mixture:
    """Negative log-likelihood of features, in nats, under a mixture of Gaussians: density (A5-6).

    No labels are used. Features are divided by one number, so that their principal axes stay those of most variance, along which the
    classes part; where all features vary alike there are none. The Gaussians' covariances are diagonal in these axes, by a fixed
    rule: full ones have D^2 / 2 numbers each, for D = 128 more than there are images, and ten of them fit training images better than
    test images by 38 nats (mnist_cnn), ten diagonal ones by 1.2. (The criterion below would still take the full ones there.) No axis is
    left out, since outliers may lie where training features do not vary; the least variance keeps the likelihood finite there. Of
    1, 2, 4 to 64 Gaussians it takes those with the least Bayesian information criterion on the training features. Outliers choose nothing.

    Attributes:
        mean_D: Mean of the training features.
        axes_DD: Their principal axes, in columns, over the root of their mean variance.
        mixture: The Gaussians.
    """

    mean_D: np.ndarray
    axes_DD: np.ndarray
    mixture: GaussianMixture

    @classmethod
    def fit(cls, known: Known) -> Mixture:
        features_nD = known.training.penultimate_nD.double().numpy()
        mean_D = features_nD.mean(axis=0)
        with threadpool_limits(1):  # so it is the same on any number of cores
            variance_D, axes_DD = np.linalg.eigh(
                (features_nD - mean_D).T @ (features_nD - mean_D) / len(features_nD)
            )
            axes_DD /= variance_D.mean() ** 0.5
            along_nD = (features_nD - mean_D) @ axes_DD
            mixtures = [
                GaussianMixture(
                    components,
                    covariance_type="diag",
                    reg_covar=LEAST_VARIANCE,
                    max_iter=STEPS,
                    random_state=known.seed,
                )
                for components in COMPONENTS
                if components <= len(along_nD)
            ]
            best = min(mixtures, key=lambda mixture: mixture.fit(along_nD).bic(along_nD))
        return cls(mean_D, axes_DD, best)

    def __call__(self, seen: Seen) -> Tensor:
        along_nD = (seen.penultimate_nD.double().numpy() - self.mean_D) @ self.axes_DD
        return -torch.from_numpy(self.mixture.score_samples(along_nD))


@dataclass(frozen=True)
class Cluster:
    """Distance to the nearest centre of k-means on standardised features, in their standard deviations: clustering, unsupervised (A5-6).

    There are as many centres as the classifier has classes; no labels are used. Every feature is standardised, for a hidden unit's
    scale is arbitrary: a ReLU network whose unit is multiplied by 10, and whose next weights to it are divided by 10, is the same
    network, and distances should be the same. Features are not whitened: k-means would then weigh
    directions that tell nothing as much as those that part the classes (adjusted mutual information of clusters and classes on
    training images of cifar10_resnet: 0.60 whitened, 0.71 standardised). Features are not brought to unit length as for `Neighbour`,
    since length tells too: images that hardly move a unit are unlike those that the network was made for.

    Attributes:
        scaler: Standardises features.
        means: The centres.
    """

    scaler: StandardScaler
    means: KMeans

    @classmethod
    def fit(cls, known: Known) -> Cluster:
        values_nD = known.training.penultimate_nD.double().numpy()
        scaler = StandardScaler().fit(values_nD)
        with threadpool_limits(1):
            means = KMeans(
                known.classifier.spec.num_classes, n_init=STARTS, random_state=known.seed
            ).fit(scaler.transform(values_nD))
        return cls(scaler, means)

    def __call__(self, seen: Seen) -> Tensor:
        distance_nk = self.means.transform(
            self.scaler.transform(seen.penultimate_nD.double().numpy())
        )
        return torch.from_numpy(distance_nk).amin(dim=1)
