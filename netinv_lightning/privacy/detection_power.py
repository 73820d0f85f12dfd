"""Power of an audit: how small a leak it would have detected.

Noisy copies of some members are planted among other real images, several times for each share of
the members. A planting is detected if it passes the test of the verdict: the whole interval of its
AUC is above that of other real images, and its p is at most 0.05.

Shape suffixes: m real images of one kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.metrics.membership import difference, most_correlated
from netinv_lightning.metrics.operating_points import exact_interval
from netinv_lightning.privacy.audit_verdict import leak_threshold, passes
from netinv_lightning.privacy.control_sets import PLANTED_NOISE, noisy_copies, other_real_images
from netinv_lightning.privacy.real_images import RealImages
from netinv_lightning.runs.tables import Cell, Table

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)
PLANTINGS = 20
RESAMPLES = 199
"""Resamples and permutations of each planting; the smallest p is 0.005."""
REQUIRED = 0.9
"""Share of the plantings that must be detected."""


@dataclass(frozen=True)
class Power:
    """Plantings of one share of the members, and how many of them were detected.

    Attributes:
        share: Share of the members that was planted.
        images: Number of the planted images.
        plantings: How often they were chosen anew.
        detected: How many plantings were detected.
        auc: Mean AUC of the plantings.
    """

    share: float
    images: int
    plantings: int
    detected: int
    auc: float

    @property
    def power(self) -> float:
        return self.detected / self.plantings


def detection_power(
    real: RealImages, *, count: int, attacks: int, control_auc_high: float, seed: int
) -> list[Power]:
    """Plant leaks of several shares and test each as an attack is tested.

    Args:
        real: The real images.
        count: Number of other real images among which a leak is planted.
        attacks: Number of attacks; p is corrected for it, as in the worst case of Holm (1979).
        control_auc_high: Upper end of the AUC interval of other real images.
        seed: Seed of every choice.
    """
    kinds = (real.members, real.held_out)
    rest = other_real_images(count, real, seed)
    similarities = [_similarity(kind, rest) for kind in kinds]
    threshold, found = leak_threshold(control_auc_high), []
    for number, share in enumerate(SHARES):
        detected, aucs, images = 0, [], 0
        for planting in range(PLANTINGS):
            of_planting = seed + 1 + number * PLANTINGS + planting
            copies = noisy_copies(real, share, of_planting)
            member_m, held_out_m = (
                torch.fmax(before_m, _similarity(kind, copies))
                for before_m, kind in zip(similarities, kinds, strict=True)
            )
            result = difference(
                member_m.nan_to_num(-1),
                real.members.labels_n,
                held_out_m.nan_to_num(-1),
                real.held_out.labels_n,
                of_planting,
                resamples=RESAMPLES,
            )
            detected += passes(result.p_value * attacks, result.auc_interval[0], threshold)
            aucs.append(result.auc)
            images = len(copies.labels_n)
        found.append(Power(share, images, PLANTINGS, detected, sum(aucs) / PLANTINGS))
    return found


def detectable_share(powers: Sequence[Power]) -> float | None:
    """Return the smallest share that is detected often enough, as are all larger ones."""
    smallest = None
    for power in sorted(powers, key=lambda power: power.share, reverse=True):
        if power.power < REQUIRED:
            break
        smallest = power.share
    return smallest


def power_line(powers: Sequence[Power]) -> str:
    """Return in one line what leak would have been detected."""
    share = detectable_share(powers)
    if share is None:
        return (
            f"power: even noisy copies of {max(power.share for power in powers):.0%} of the "
            f"training images are detected in fewer than {REQUIRED:.0%} of the plantings"
        )
    return (
        f"power: noisy copies of {share:.0%} of the training images, or of more, are detected in "
        f"at least {REQUIRED:.0%} of the plantings"
    )


def power_table(powers: Sequence[Power]) -> Table:
    """One row per share."""
    rows: list[list[Cell]] = [
        [
            f"{power.share:.0%}",
            power.images,
            f"{power.detected} of {power.plantings}",
            power.power,
            *exact_interval(power.detected, power.plantings),
            power.auc,
        ]
        for power in powers
    ]
    columns = ["leaked share", "images", "detected", "power", "low", "high", "mean AUC"]
    notes = [
        power_line(powers),
        f"planted: copies of random members with Gaussian noise of {PLANTED_NOISE:g}, among other "
        "real images; each is tested as an attack is; low, high: exact 95 % interval",
        "a leak of blurred or partial images must be larger to be detected",
    ]
    return Table("What leak would have been detected?", columns, rows, notes)


def _similarity(real: Images, images: Images) -> Tensor:
    """Return the correlation of each real image with its nearest image; NaN if there is none."""
    return most_correlated(real.images_nCHW, real.labels_n, images.images_nCHW, images.labels_n)[1]
