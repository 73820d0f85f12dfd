"""Comparison of reconstructions with members (training images) and held-out images.

Shape suffixes: n reconstructions, m real images of one kind, K pairs, C channels, H height, W
width, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import extract_features
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.splits import stratified_indices
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.metrics.fidelity import memorisation_informed_distance
from netinv_lightning.metrics.membership import (
    Difference,
    Nearest,
    correlations,
    difference,
    matched,
    nearest,
)
from netinv_lightning.privacy.real_images import RealImages

CEILING_IMAGES = 2000
"""Largest number of real images on which the accuracy of other networks is measured."""
DUPLICATE_CORRELATION = 0.95
"""Correlation above which two reconstructions count as the same picture."""
LEAST_MEMBERS = 5
"""Fewest images of a class for which an interval is computed."""


@dataclass(frozen=True)
class Pair:
    """A reconstruction with its nearest training image and its nearest held-out image.

    Images are [C, H, W] in [0, 1]; similarities are normalised cross-correlations.
    """

    reconstruction_CHW: Tensor
    member_CHW: Tensor
    held_out_CHW: Tensor
    label: int
    similarity: float
    similarity_held_out: float


@dataclass(frozen=True)
class Comparison:
    """Result of the comparison of one set of images.

    Attributes:
        n: Number of images.
        ncc: Members against held-out images, by normalised cross-correlation; the verdict uses it.
        ssim: Members against held-out images, by structural similarity.
        nearest_member: Mean correlation of a member with its nearest image.
        nearest_held_out: Mean correlation of a held-out image with its nearest image.
        good: Share of pairs, matched one to one with members, with a structural similarity above
            `GOOD`.
        good_held_out: Share of such pairs with held-out images.
        classes: `ncc` by class.
    """

    n: int
    ncc: Difference
    ssim: Difference
    nearest_member: float
    nearest_held_out: float
    good: float
    good_held_out: float
    classes: dict[int, Difference]

    def metrics(self, class_names: Sequence[str]) -> dict[str, float]:
        """Return the metrics by name; with class names, the AUC of each class too."""
        (auc_low, auc_high), (gap_low, gap_high) = self.ncc.auc_interval, self.ncc.gap_interval
        values = {
            "auc": self.ncc.auc,
            "auc_low": auc_low,
            "auc_high": auc_high,
            "gap": self.ncc.gap,
            "gap_low": gap_low,
            "gap_high": gap_high,
            "p_value": self.ncc.p_value,
            "ssim_auc": self.ssim.auc,
            "ssim_gap": self.ssim.gap,
            "ssim_gap_low": self.ssim.gap_interval[0],
            "ssim_gap_high": self.ssim.gap_interval[1],
            "ssim_p_value": self.ssim.p_value,
            "nearest_member": self.nearest_member,
            "nearest_held_out": self.nearest_held_out,
            "good": self.good,
            "good_held_out": self.good_held_out,
        }
        metrics = {names.reconstruction(what): value for what, value in values.items()}
        return metrics | {
            names.reconstruction("auc_class", class_names[label]): ncc.auc
            for label, ncc in self.classes.items()
            if class_names
        }


def compare(images: Images, real: RealImages, seed: int = 0) -> Comparison:
    """Compare reconstructions with members and held-out images.

    Args:
        images: The reconstructions, in [0, 1], with the classes that they were made for.
        real: The real images.
        seed: Seed of bootstrap and permutations.
    """
    x_nCHW, label_n = images.images_nCHW.float(), images.labels_n
    kinds = (real.members, real.held_out)
    members, held_out = (
        _similarities(nearest(kind.images_nCHW, kind.labels_n, x_nCHW, label_n), kind.labels_n)
        for kind in kinds
    )
    pairs = [matched(kind.images_nCHW, kind.labels_n, x_nCHW, label_n) for kind in kinds]
    classes = {}
    for label in members.label_m.unique().tolist():
        inside, outside = members.of_class(label), held_out.of_class(label)
        if min(len(inside.label_m), len(outside.label_m)) >= LEAST_MEMBERS:
            classes[label] = difference(
                inside.ncc_m, inside.label_m, outside.ncc_m, outside.label_m, seed
            )
    return Comparison(
        n=len(label_n),
        ncc=difference(members.ncc_m, members.label_m, held_out.ncc_m, held_out.label_m, seed),
        ssim=difference(members.ssim_m, members.label_m, held_out.ssim_m, held_out.label_m, seed),
        nearest_member=float(members.ncc_m.mean()),
        nearest_held_out=float(held_out.ncc_m.mean()),
        good=pairs[0].good,
        good_held_out=pairs[1].good,
        classes=classes,
    )


@dataclass(frozen=True)
class _Similarities:
    """Similarities and classes of the real images that have a reconstruction of their class."""

    ncc_m: Tensor
    ssim_m: Tensor
    label_m: Tensor

    def of_class(self, label: int) -> _Similarities:
        chosen = self.label_m == label
        return _Similarities(self.ncc_m[chosen], self.ssim_m[chosen], self.label_m[chosen])


def _similarities(found: Nearest, label_m: Tensor) -> _Similarities:
    chosen = found.index_m >= 0
    return _Similarities(found.ncc_m[chosen], found.ssim_m[chosen], label_m[chosen])


def best_pairs(images: Images, real: RealImages, count: int = 20) -> list[Pair]:
    """Return the reconstructions that are most similar to a training image, best first.

    Reconstructions and training images are matched one to one. Of reconstructions that are nearly
    the same picture, only the best is returned.
    """
    x_nCHW, label_n = images.images_nCHW.float(), images.labels_n
    pairs = matched(real.members.images_nCHW, real.members.labels_n, x_nCHW, label_n)
    best: list[int] = []
    for c in pairs.ncc_c.argsort(descending=True).tolist():
        if len(best) == count:
            break
        similarity = correlations(
            x_nCHW[pairs.reconstruction_c[[c]]], x_nCHW[pairs.reconstruction_c[best]]
        )
        if not (similarity > DUPLICATE_CORRELATION).any():
            best.append(c)
    chosen_K = pairs.reconstruction_c[best]
    held_out = nearest(
        x_nCHW[chosen_K], label_n[chosen_K], real.held_out.images_nCHW, real.held_out.labels_n
    )
    return [
        Pair(
            reconstruction_CHW=x_nCHW[n],
            member_CHW=real.members.images_nCHW[pairs.real_c[c]],
            held_out_CHW=real.held_out.images_nCHW[held_out.index_m[k]],
            label=int(label_n[n]),
            similarity=float(pairs.ncc_c[c]),
            similarity_held_out=float(held_out.ncc_m[k]),
        )
        for k, (c, n) in enumerate(zip(best, chosen_K.tolist(), strict=True))
    ]


def verifier_accuracy(verifiers: Sequence[FrozenClassifier], others: Images) -> float:
    """Return the mean accuracy of the verifiers on real images, the ceiling of transfer.

    It is 1 without verifiers.
    """
    chosen = stratified_indices(others.labels_n, min(len(others.labels_n), CEILING_IMAGES), 0)
    accuracies = []
    for verifier in verifiers:
        predicted_n = extract_features(verifier, others.images_nCHW[chosen]).logits_nN.argmax(dim=1)
        accuracies.append(float((predicted_n == others.labels_n[chosen]).double().mean()))
    return fmean(accuracies) if accuracies else 1.0


def mifid(
    images: Images, real: RealImages, verifiers: Mapping[str, FrozenClassifier]
) -> dict[str, float]:
    """Memorisation-informed Frechet distance to the members (Bai et al. 2021, arXiv 2106.03062).

    It uses the penultimate features of networks that were not attacked. A verifier without
    penultimate features is skipped.
    """
    values = {}
    for name, verifier in verifiers.items():
        members, generated = (
            extract_features(verifier, x_nCHW)
            for x_nCHW in (real.members.images_nCHW, images.images_nCHW)
        )
        if members.has_features and generated.has_features:
            values[names.of_network(names.reconstruction("mifid"), name)] = (
                memorisation_informed_distance(members.features_nD, generated.features_nD)
            )
    return values
