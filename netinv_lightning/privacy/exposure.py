"""Which training images leak: the risk of each member, by reconstruction and by loss.

Shape suffixes: m real images of one kind, K images of a figure, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.metrics.membership import correlations, nearest
from netinv_lightning.metrics.operating_points import share_at_least
from netinv_lightning.privacy.comparison import DUPLICATE_CORRELATION
from netinv_lightning.privacy.loss_membership import LossMembership
from netinv_lightning.privacy.real_images import RealImages
from netinv_lightning.runs.tables import Cell, Table

NEIGHBOURS = 5
"""Number of the nearest images of a class by which an outlier is recognised."""
SHOWN = 20
"""Number of images in the Markdown table."""
COLUMNS = (
    "index",
    "class",
    "attack",
    "correlation",
    "SSIM",
    "held-out as similar",
    "loss",
    "held-out loss as low",
    "outlier rank",
    "similar members",
    "similar held-out",
)


@dataclass(frozen=True)
class Exposure:
    """Risk of each of m members, most exposed first.

    Attributes:
        index_m: Position among the training images of the data set.
        image_mCHW: The members.
        label_m: Their classes.
        attack: The attack whose reconstruction is rarest among held-out images.
        reconstruction_mCHW: Its nearest reconstruction of the same class.
        correlation_m: Normalised cross-correlation with it; -1 if there is none.
        ssim_m: Structural similarity with it.
        rate_m: Share of the held-out images that are at least as similar to a reconstruction of
            the same attack: the false alarms of an attacker who believes this reconstruction. The
            choice among several attacks makes it slightly optimistic.
        loss_m: Cross-entropy.
        loss_rate_m: Share of the held-out images with a loss at most as high.
        outlier_rank_m: 1 for the member that resembles its class least.
        similar_members_m: Number of other members of its class that are nearly the same image.
        similar_held_out_m: Number of such held-out images.
    """

    index_m: Tensor
    image_mCHW: Tensor
    label_m: Tensor
    attack: list[str]
    reconstruction_mCHW: Tensor
    correlation_m: Tensor
    ssim_m: Tensor
    rate_m: Tensor
    loss_m: Tensor
    loss_rate_m: Tensor
    outlier_rank_m: Tensor
    similar_members_m: Tensor
    similar_held_out_m: Tensor

    def table(self, class_names: Sequence[str]) -> Table:
        """The first rows for people, and all rows as CSV."""
        numbers = zip(
            self.index_m.tolist(),
            [class_names[label] for label in self.label_m.tolist()],
            self.attack,
            self.correlation_m.tolist(),
            self.ssim_m.tolist(),
            self.rate_m.tolist(),
            self.loss_m.tolist(),
            self.loss_rate_m.tolist(),
            self.outlier_rank_m.tolist(),
            self.similar_members_m.tolist(),
            self.similar_held_out_m.tolist(),
            strict=True,
        )
        rows: list[list[Cell]] = [list(row) for row in numbers]
        notes = [
            "index: position among the training images of the data set; the CSV file has one row "
            f"for each of the {len(rows)} compared training images",
            "held-out as similar: share of the held-out images that are at least as similar to a "
            f"reconstruction; without a leak, about {len(rows)} times this share of the compared "
            "training images look as exposed by chance",
            "held-out loss as low: the same by the loss of the classifier",
            "outlier rank: 1 is the image with the lowest mean correlation with the "
            f"{NEIGHBOURS} nearest compared training images of its class",
            f"similar: number of images of the class with a correlation of {DUPLICATE_CORRELATION} "
            "or more",
        ]
        full = Table("", COLUMNS, rows)
        return Table("Most exposed training images", COLUMNS, rows[:SHOWN], notes, full=full)


def exposure(
    attacks: Mapping[str, Images], real: RealImages, membership: LossMembership
) -> Exposure:
    """Return the risk of each member.

    Args:
        attacks: The reconstructions of each attack.
        real: Members and held-out images.
        membership: Their losses.
    """
    members = real.members
    m = len(members.labels_n)
    rate_m, correlation_m = torch.full((m,), 2.0).double(), torch.full((m,), -1.0)
    ssim_m, attack = torch.zeros(m), [""] * m
    reconstruction_mCHW = torch.ones_like(members.images_nCHW)
    for name, images in attacks.items():
        x_nCHW = images.images_nCHW.float()
        found, beside = (
            nearest(kind.images_nCHW, kind.labels_n, x_nCHW, images.labels_n)
            for kind in (members, real.held_out)
        )
        ncc_m = found.ncc_m.nan_to_num(-1)
        share_m = share_at_least(ncc_m, beside.ncc_m.nan_to_num(-1))
        better_m = (share_m < rate_m) | ((share_m == rate_m) & (ncc_m > correlation_m))
        better_m &= found.index_m >= 0
        rate_m[better_m], correlation_m[better_m] = share_m[better_m], ncc_m[better_m]
        ssim_m[better_m] = found.ssim_m[better_m]
        reconstruction_mCHW[better_m] = x_nCHW[found.index_m[better_m]]
        for index in better_m.nonzero().flatten().tolist():
            attack[index] = name
    typical_m, similar_members_m, similar_held_out_m = _neighbours(members, real.held_out)
    order_m = torch.tensor(
        sorted(range(m), key=lambda k: (float(rate_m[k]), -float(correlation_m[k])))
    )
    return Exposure(
        index_m=real.member_index_m[order_m],
        image_mCHW=members.images_nCHW[order_m],
        label_m=members.labels_n[order_m],
        attack=[attack[k] for k in order_m.tolist()],
        reconstruction_mCHW=reconstruction_mCHW[order_m],
        correlation_m=correlation_m[order_m],
        ssim_m=ssim_m[order_m],
        rate_m=rate_m.clamp(max=1)[order_m],
        loss_m=torch.nn.functional.softplus(-membership.member_m)[order_m],
        loss_rate_m=membership.false_positive_rate_m()[order_m],
        outlier_rank_m=(typical_m.argsort().argsort() + 1)[order_m],
        similar_members_m=similar_members_m[order_m],
        similar_held_out_m=similar_held_out_m[order_m],
    )


def _neighbours(members: Images, held_out: Images) -> tuple[Tensor, Tensor, Tensor]:
    """Return how typical each member is of its class, and the numbers of near-duplicates.

    A member without another one of its class counts as typical.
    """
    m = len(members.labels_n)
    typical_m = torch.ones(m)
    similar_members_m, similar_held_out_m = torch.zeros(2, m, dtype=torch.int64)
    for label in members.labels_n.unique():
        inside = (members.labels_n == label).nonzero().flatten()
        x_mCHW = members.images_nCHW[inside]
        own = correlations(x_mCHW, x_mCHW).fill_diagonal_(-1)
        other = correlations(x_mCHW, held_out.images_nCHW[held_out.labels_n == label])
        if len(inside) > 1:
            nearest_few = own.topk(min(NEIGHBOURS, len(inside) - 1), dim=1).values
            typical_m[inside] = nearest_few.mean(dim=1)
        similar_members_m[inside] = (own >= DUPLICATE_CORRELATION).sum(dim=1)
        similar_held_out_m[inside] = (other >= DUPLICATE_CORRELATION).sum(dim=1)
    return typical_m, similar_members_m, similar_held_out_m
