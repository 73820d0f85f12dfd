"""Principal components of features, and the spread of classes in the features.

They reproduce Fig. 3 of Suhail, Tang and Sethi (2024, arXiv 2411.17777, section 5.1).

Shape suffixes: n samples, D features, K principal components, k the first of them, N classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.decomposition import PCA
from torch import Tensor

from netinv_lightning.data.splits import class_sums
from netinv_lightning.errors import InputError


@dataclass(frozen=True)
class Projection:
    """Principal components of a set of features, from `Projection.fit`.

    Attributes:
        mean_D: Mean of the features.
        components_KD: Orthonormal directions, largest variance first. The entry of largest absolute
            value of each is positive.
        variance_K: Share of the total variance along each direction, with sum 1; K = min(n, D).
    """

    mean_D: Tensor
    components_KD: Tensor
    variance_K: Tensor

    @classmethod
    def fit(cls, features_nD: Tensor) -> Projection:
        """Compute the components of features [n, D].

        Raises:
            InputError: if there are fewer than 2 samples, or all have the same features.
        """
        if len(features_nD) < 2:
            raise InputError(
                f"samples={len(features_nD)}: principal components need 2 samples or more"
            )
        if bool((features_nD == features_nD[0]).all()):
            raise InputError(
                f"samples={len(features_nD)}: all have the same features. "
                "Principal components need samples that differ"
            )
        pca = PCA().fit(features_nD.double().numpy())
        components_KD = torch.from_numpy(pca.components_)
        # Signs depend on solver and platform; fix them so that no figure is mirrored.
        largest_K1 = components_KD.gather(1, components_KD.abs().argmax(dim=1, keepdim=True))
        return cls(
            torch.from_numpy(pca.mean_).float(),
            (components_KD * largest_K1.sign()).float(),
            torch.from_numpy(pca.explained_variance_ratio_).float(),
        )

    def encode(self, features_nD: Tensor, dims: int) -> Tensor:
        """Return the coordinates [n, dims] of features [n, D] along the first `dims` components.

        Raises:
            InputError: if there are not that many components.
        """
        self._check(dims)
        return (features_nD - self.mean_D) @ self.components_KD[:dims].T

    def decode(self, z_nk: Tensor) -> Tensor:
        """Return the features [n, D] at coordinates [n, k]; other components are at the mean.

        Raises:
            InputError: if there are not that many components.
        """
        self._check(z_nk.shape[1])
        return z_nk @ self.components_KD[: z_nk.shape[1]] + self.mean_D

    def components_for(self, share: float) -> int:
        """Return the smallest number of components with `share` (0 to 1) of the total variance."""
        cumulative_K = self.variance_K.double().cumsum(dim=0)
        # Rounding may leave the sum of all shares below 1.
        return min(int((cumulative_K < share).sum()) + 1, len(cumulative_K))

    def _check(self, dims: int) -> None:
        if not 0 <= dims <= (K := len(self.components_KD)):
            raise InputError(
                f"interpret: {dims} principal components requested, but these features have {K}. "
                f"Choose 0 to {K}"
            )


@dataclass(frozen=True)
class Spread:
    """Spread of samples within and between classes, in squared units of the features.

    Attributes:
        within_N: Total variance of each class: mean squared distance of its samples to their mean.
            NaN for a class without samples; 0 if all samples of a class are equal, as in mode
            collapse, or for a single sample.
        between: Share of the variance of all samples that is between the class means, 0 to 1. At 1
            each class is a point; at 0 all classes have the same mean.
        between_by_chance: Its expected value for random labels: (classes with samples - 1) / (n -
            1).
    """

    within_N: Tensor
    between: float
    between_by_chance: float


def spread(features_nD: Tensor, labels_n: Tensor, num_classes: int) -> Spread:
    """Compute the spread of the classes in all D features, not in a plane.

    Variances divide by the number of samples. So n times the total variance is exactly the sum over
    classes of their number of samples times (`within_N` + squared distance of the class mean to the
    overall mean).

    Args:
        features_nD: Features of two samples or more that are not all equal.
        labels_n: Labels in 0 to num_classes - 1.
        num_classes: N; classes without samples do not contribute to `between`.
    """
    f_nD = features_nD.double()
    count_N = labels_n.bincount(minlength=num_classes)
    mean_ND = class_sums(f_nD, labels_n, num_classes) / count_N.clamp(min=1)[:, None]
    squared_n = (f_nD - mean_ND[labels_n]).square().sum(dim=1)
    squared_N = class_sums(squared_n, labels_n, num_classes)
    total = (f_nD - f_nD.mean(dim=0)).square().sum()
    return Spread(
        (squared_N / count_N).float(),  # 0 / 0 is NaN: the class has no samples
        float(1 - squared_N.sum() / total),
        (int((count_N > 0).sum()) - 1) / (len(f_nD) - 1),
    )
