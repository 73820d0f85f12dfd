"""Measure how well detectors separate perturbed from unperturbed images, by norm.

The slides (Taparia, "Insights of OOD Detection using INN") claim that L1 and L2 perturbations give
"more effective global detection OOD shifts, as they evenly distribute changes across the image",
and call Linf "pixel-level control". They give no protocol. In our protocol, one half of the test
images is perturbed and compared with the other half, so that no image is compared with itself. The
radius of each norm is chosen so that random perturbations of all norms have the same root mean
square (RMS) change of a value; adversarial perturbations have the same radius. Before clipping to
[0, 1], a random perturbation of P values with radius r has the expected mean square

    linf    r^2 / 3               each value is uniform in [-r, r]
    l2      r^2 / P               uniform on the sphere
    l1      2 r^2 / (P (P + 1))   magnitudes / r are uniform on the simplex: Dirichlet(1, ..., 1)

Adversarial perturbations and clipping change the RMS at equal radius. Norms are therefore compared
at the RMS that is reached, with interpolation between the strengths of Linf. The results are in
experiments/ood.

Shape suffixes: n unperturbed images, m images to perturb, B batch, C channels, H height, W width, P
pixels or values of an image, D detectors, S the sample and its resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product

import torch
from torch import Tensor

from netinv_lightning.classifiers.features import BATCH, batches, check_images
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.splits import stratified_indices
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.perturbation import NORMS, Perturbation
from netinv_lightning.inversion.perturbation import norm as norm_of
from netinv_lightning.metrics.detection import auroc_interval
from netinv_lightning.ood.detectors import Detector, extract_for, score_all
from netinv_lightning.ood.paired_auroc import PairedBootstrap, Strength, norm_gain
from netinv_lightning.ood.perturbation_results import (
    BASELINE,
    CLAIMED,
    DIRECTIONS,
    PerturbationResults,
    PerturbationRow,
)
from netinv_lightning.training.distributed import Stream

TOP_SHARE = 0.01
"""Share of the pixels whose change `concentration` counts."""
LEAST_IMAGES = 20


def perturbation_study(
    detectors: Mapping[str, Detector],
    images_nCHW: Tensor,
    labels_n: Tensor,
    strengths: Sequence[float],
    seed: int,
) -> PerturbationResults:
    """Perturb half of the images in every direction, norm and strength, and score both halves.

    Args:
        detectors: Fitted detectors of one classifier, by name.
        images_nCHW: In-distribution test images in [0, 1] that no detector was fitted on.
        labels_n: Their labels; adversarial perturbations lead away from them.
        strengths: RMS changes of a value, each above 0 and at most 1.
        seed: Seed of the halves, the perturbations and the bootstrap.

    Raises:
        InputError: if there are no detectors, strengths are missing or out of range, or images and
            labels do not fit.
    """
    if not detectors:
        raise InputError("application.detectors: must name one or more")
    images_nCHW, labels_n = images_nCHW.cpu(), labels_n.cpu()
    check_images(next(iter(detectors.values())).classifier, images_nCHW)
    if len(labels_n) != len(images_nCHW) or len(labels_n) < LEAST_IMAGES:
        raise InputError(
            f"images: {len(images_nCHW)} with {len(labels_n)} labels; "
            f"must be {LEAST_IMAGES} or more, with one label each"
        )
    check_strengths(strengths)
    halves = _Halves(detectors, images_nCHW, labels_n, seed)
    _, unperturbed_DS, unperturbed_accuracy = halves.measure(halves.x_mCHW)
    rows: list[PerturbationRow] = []
    reached: dict[tuple[str, str], list[Strength]] = {}
    for direction, norm, rms in product(DIRECTIONS, NORMS, sorted(strengths)):
        new_rows, strength = halves.perturbed(direction, norm, rms)
        rows += new_rows
        reached.setdefault((direction, norm), []).append(strength)
    unperturbed = Strength(0.0, unperturbed_DS)
    gains = [
        norm_gain(
            direction,
            norm,
            reached[direction, norm],
            baseline=[unperturbed, *reached[direction, BASELINE]],
            seed=seed,
        )
        for direction, norm in product(DIRECTIONS, CLAIMED)
    ]
    return PerturbationResults(
        rows=tuple(rows),
        gains=tuple(gains),
        unperturbed_auroc=dict(zip(detectors, unperturbed_DS[:, 0].tolist(), strict=True)),
        unperturbed_accuracy=unperturbed_accuracy,
    )


class _Halves:
    """The two halves of the images: one is perturbed, the other is scored once, unperturbed."""

    def __init__(
        self, detectors: Mapping[str, Detector], images_nCHW: Tensor, labels_n: Tensor, seed: int
    ) -> None:
        self.detectors, self.seed = detectors, seed
        chosen_n = torch.zeros(len(labels_n), dtype=torch.bool)
        chosen_n[stratified_indices(labels_n, len(labels_n) // 2, seed)] = True
        self.x_mCHW, self.label_m = images_nCHW[chosen_n], labels_n[chosen_n]
        self.other_n = score_all(detectors, extract_for(detectors, images_nCHW[~chosen_n]))
        n, m = len(images_nCHW) - len(self.x_mCHW), len(self.x_mCHW)
        self.bootstrap = PairedBootstrap(n, m, seed)

    def measure(self, images_mCHW: Tensor) -> tuple[dict[str, Tensor], Tensor, float]:
        """Return scores [m] by detector, their AUROCs [D, S], and the accuracy."""
        features = extract_for(self.detectors, images_mCHW)
        score_m = score_all(self.detectors, features)
        auroc_DS = torch.stack(
            [self.bootstrap.aurocs(self.other_n[d], score_m[d]) for d in self.detectors]
        )
        right_m = features.logits_nN.argmax(dim=1) == self.label_m
        return score_m, auroc_DS, float(right_m.double().mean())

    def perturbed(
        self, direction: str, norm: str, rms: float
    ) -> tuple[list[PerturbationRow], Strength]:
        """Perturb one half; return a row per detector, and the AUROCs of this strength."""
        P = self.x_mCHW[0].numel()
        perturbation = Perturbation(norm, radius(norm, rms, P), direction)
        classifier = next(iter(self.detectors.values())).classifier
        perturbed_mCHW = perturb(perturbation, classifier, self.x_mCHW, self.label_m, self.seed)
        change_mCHW = perturbed_mCHW - self.x_mCHW
        score_m, auroc_DS, accuracy = self.measure(perturbed_mCHW)
        l2, linf = (float(norm_of(change_mCHW.flatten(1), kind).mean()) for kind in ("l2", "linf"))
        share = concentration(change_mCHW)
        rows = []
        for name, auroc_S in zip(self.detectors, auroc_DS, strict=True):
            low, high = auroc_interval(self.other_n[name], score_m[name], self.seed)
            rows.append(
                PerturbationRow(
                    direction=direction,
                    norm=norm,
                    rms=rms,
                    detector=name,
                    auroc=float(auroc_S[0]),
                    auroc_low=low,
                    auroc_high=high,
                    accuracy=accuracy,
                    concentration=share,
                    l2=l2,
                    linf=linf,
                )
            )
        return rows, Strength(l2 / math.sqrt(P), auroc_DS)


def radius(norm: str, rms: float, P: int) -> float:
    """Return the radius at which a random perturbation of P values has this RMS before clipping.

    For L2 the RMS is exact; for the other norms it is the root of the expected mean square.
    """
    return rms * {"l1": math.sqrt(P * (P + 1) / 2), "l2": math.sqrt(P), "linf": math.sqrt(3)}[norm]


def perturb(
    perturbation: Perturbation,
    classifier: FrozenClassifier,
    x_mCHW: Tensor,
    label_m: Tensor,
    seed: int,
) -> Tensor:
    """Return the perturbed images, on the CPU; all norms use the same random draws."""
    device = classifier.mean_C11.device
    stream = Stream(seed, device)
    parts = zip(batches(classifier, x_mCHW), label_m.to(device).split(BATCH), strict=True)
    return torch.cat(
        [
            perturbation(x_BCHW, label_B, classifier, stream).cpu().contiguous()
            for x_BCHW, label_B in parts
        ]
    )


def concentration(change_mCHW: Tensor) -> float:
    """Return the share of the squared change in the most changed 1 % of the pixels."""
    square_mP = change_mCHW.square().sum(dim=1).flatten(1)
    top_mk = square_mP.topk(max(1, round(TOP_SHARE * square_mP.shape[1])), dim=1).values
    return float(top_mk.sum() / square_mP.sum())


def check_strengths(strengths: Sequence[float]) -> None:
    """Check that the strengths are RMS changes of pixels in [0, 1].

    Raises:
        InputError: naming the key.
    """
    if (
        not strengths
        or not all(0 < rms <= 1 for rms in strengths)
        or len(set(strengths)) < len(strengths)
    ):
        raise InputError(
            f"application.strengths={list(strengths)}: must be one or more different RMS changes, "
            "each above 0 and at most 1"
        )
