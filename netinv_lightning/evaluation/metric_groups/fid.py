"""Frechet distance and kernel distance to real training images.

Shape suffixes: n images, m real images, D features.
"""

from __future__ import annotations

from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.evaluation.metric_groups.group import RealFeatureMetrics
from netinv_lightning.metrics.fidelity import frechet_distance, kernel_distance


class FID(RealFeatureMetrics):
    """FID and KID in the features of each verifier."""

    @property
    def minimum(self) -> int:
        """One more than the number of features, so that the covariance has full rank."""
        dims = [
            verifier.feature_dims[verifier.feature_layers[-1]]
            for verifier in self.context.verifiers.values()
        ]
        return max(dims, default=0) + 1

    def compare(self, verifier: str, features_nD: Tensor) -> dict[str, float]:
        real_mD, n = self.context.training_features[verifier], len(features_nD)
        fid = frechet_distance(real_mD, sync_on_compute=False)
        fid.update(features_nD.double(), real=False)
        kid = kernel_distance(real_mD, n, self.context.seed, sync_on_compute=False)
        kid.update(features_nD, real=False)
        return {names.FID: float(fid.compute()), names.KID: float(kid.compute()[0])}
