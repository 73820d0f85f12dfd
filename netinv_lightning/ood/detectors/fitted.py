"""Scores fitted on the training images' penultimate features, higher = more out-of-distribution.

Shape suffixes: n images, N classes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pytorch_ood.detector import KNN, ViM  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from netinv_lightning.classifiers.features import Seen
from netinv_lightning.classifiers.penultimate import last_linear
from netinv_lightning.errors import InputError
from netinv_lightning.ood.detectors.known import Known

IMAGES_A_NEIGHBOUR = 1000
"""Of the training images: 50 neighbours in CIFAR-10's 50,000 (Sun et al. 2022), and in proportion, as there, in fewer."""
ROUNDING = 1e-10
"""Variance, as a share of the greatest, that in float32 features is rounding."""


@dataclass(frozen=True)
class Outside:
    """How far an image lies outside of every class: the slides' LC, linear classifier (A5-2).

    The slides tell two things of it: "linear separability", and "OOD samples are far from class boundaries". Here each class has a
    logistic regression on standardised features, class against the rest; its hyperplane is the class's boundary. The score is the
    signed distance to the hyperplane from its outer side, of the class for which it is least: above 0, no class takes the image.
    Without its sign, the distance to the nearest hyperplane is greatest for the most typical images: of MNIST against noise it has an
    AUROC of 0.04 to 0.11 (mnist_mlp, mnist_cnn).

    Attributes:
        normals_ND: Normals of the hyperplanes, of unit length in standardised features, for features as they are.
        offsets_N: Their offsets.
    """

    normals_ND: Tensor
    offsets_N: Tensor

    @classmethod
    def fit(cls, known: Known) -> Outside:
        scaler = StandardScaler().fit(known.training.penultimate_nD.double().numpy())
        scaled_nD = scaler.transform(known.training.penultimate_nD.double().numpy())
        normals, offsets = [], []
        with threadpool_limits(1):  # so it is the same on any number of cores
            for label in range(known.classifier.spec.num_classes):
                regression = LogisticRegression(max_iter=1000).fit(
                    scaled_nD, known.labels_n.numpy() == label
                )
                normal_D, offset = (
                    torch.from_numpy(regression.coef_[0]),
                    float(regression.intercept_[0]),
                )
                normals.append(normal_D / normal_D.norm() / torch.from_numpy(scaler.scale_))
                offsets.append(offset / float(normal_D.norm()))
        normals_ND = torch.stack(normals)
        return cls(
            normals_ND,
            torch.tensor(offsets, dtype=torch.double) - normals_ND @ torch.from_numpy(scaler.mean_),
        )

    def __call__(self, seen: Seen) -> Tensor:
        inside_nN = seen.penultimate_nD.double() @ self.normals_ND.T + self.offsets_N
        return -inside_nN.amax(dim=1)


@dataclass(frozen=True)
class Mahalanobis:
    """Squared Mahalanobis distance to the nearest class mean, one covariance for all classes (Lee et al. 2018, last layer only).

    Directions in which training features do not vary are left out, as by the pseudo-inverse there.

    Attributes:
        means_ND: Class means.
        whitening_DD: Its product with its transpose is the inverse covariance.
    """

    means_ND: Tensor
    whitening_DD: Tensor

    @classmethod
    def fit(cls, known: Known) -> Mahalanobis:
        features_nD, labels_n = known.training.penultimate_nD.double(), known.labels_n
        means_ND = torch.stack(
            [
                features_nD[labels_n == label].mean(dim=0)
                for label in range(known.classifier.spec.num_classes)
            ]
        )
        within_nD = features_nD - means_ND[labels_n]
        variance_D, axes_DD = torch.linalg.eigh(within_nD.T @ within_nD / len(within_nD))
        varies_D = variance_D > ROUNDING * variance_D[-1]
        return cls(means_ND, axes_DD[:, varies_D] / variance_D[varies_D].sqrt())

    def __call__(self, seen: Seen) -> Tensor:
        white_nD, means_ND = (
            seen.penultimate_nD.double() @ self.whitening_DD,
            self.means_ND @ self.whitening_DD,
        )
        return torch.stack([(white_nD - mean_D).square().sum(dim=1) for mean_D in means_ND]).amin(
            dim=0
        )


@dataclass(frozen=True)
class Neighbour:
    """Distance to the k-th nearest training image, in features of unit length (Sun et al. 2022)."""

    knn: KNN

    @classmethod
    def fit(cls, known: Known) -> Neighbour:
        features_nD = known.training.penultimate_nD
        k = max(1, round(len(features_nD) / IMAGES_A_NEIGHBOUR))
        return cls(KNN(None, k=k).fit_features(features_nD, known.labels_n))

    def __call__(self, seen: Seen) -> Tensor:
        distance_n: Tensor = self.knn.predict_features(seen.penultimate_nD)
        return distance_n.double()


@dataclass(frozen=True)
class VirtualLogit:
    """Virtual-logit matching (Wang et al. 2022): the features' residual outside of the training images' principal space, as a logit
    beside the others, less the energy of the others.

    The principal space has 1000 dimensions from 2048 features on, 512 from 768 on, else half of them, as there.
    """

    vim: ViM

    @classmethod
    def fit(cls, known: Known) -> VirtualLogit:
        features_nD, linear = known.training.penultimate_nD, last_linear(known.classifier.network)
        if linear is None:
            raise InputError(
                "application.detectors=vim: the network has no fully connected layer; leave vim out"
            )
        weight_ND, D = linear.weight.detach().float().cpu(), features_nD.shape[1]
        bias_N = (
            torch.zeros(len(weight_ND))
            if linear.bias is None
            else linear.bias.detach().float().cpu()
        )
        logits_nN = known.training.logits_nN
        fits = (logits_nN.shape[1], D) == tuple(weight_ND.shape)
        if not fits or not torch.allclose(
            features_nD @ weight_ND.T + bias_N, logits_nN, rtol=1e-3, atol=1e-3
        ):
            raise InputError(
                "application.detectors=vim: the network's last fully connected layer does not give its logits (something follows it); "
                "leave vim out"
            )
        dims = 1000 if D >= 2048 else 512 if D >= 768 else D // 2
        return cls(
            ViM(None, d=dims, w=weight_ND, b=bias_N).fit_features(features_nD, known.labels_n)
        )

    def __call__(self, seen: Seen) -> Tensor:
        score_n: Tensor = self.vim.predict_features(seen.penultimate_nD)
        return score_n.double()
