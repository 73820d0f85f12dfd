"""Frechet distance and kernel distance to real training images.

Shape suffixes: n images, m real images, D features.
"""

from __future__ import annotations

from collections.abc import Mapping

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.metric_groups.group import (
    TRAINING_IMAGES,
    VERIFIERS,
    MetricGroup,
)
from netinv_lightning.metrics.fidelity import frechet_distance, kernel_distance


class FID(MetricGroup):
    """FID and KID in the features of each verifier."""

    reads = (VERIFIERS,)
    needs = (VERIFIERS, TRAINING_IMAGES)

    @property
    def minimum(self) -> int:
        """More images than features, so that the covariance has full rank."""
        dims = [
            verifier.feature_dims[verifier.feature_layers[-1]]
            for verifier in self.context.verifiers.values()
        ]
        return max(dims, default=0) + 1

    def compute(self, images: Images, outputs: Mapping[str, FeatureSet]) -> dict[str, float]:
        values = {}
        for verifier, real_mD in self.context.training_features.items():
            f_nD = outputs[verifier].features_nD
            fid = frechet_distance(real_mD, sync_on_compute=False)
            fid.update(f_nD.double(), real=False)
            kid = kernel_distance(real_mD, len(f_nD), self.context.seed, sync_on_compute=False)
            kid.update(f_nD, real=False)
            values[names.of_network(names.FID, verifier)] = float(fid.compute())
            values[names.of_network(names.KID, verifier)] = float(kid.compute()[0])
        return values
