"""Reconstructions beside the training images, held-out images and controls: numbers, tables and the best pairs.

Shape suffixes: n reconstructions, m real images of one kind, K pairs, C channels, H height, W width, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import look
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.splits import stratified_indices
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.metrics.fidelity import memorisation_informed_distance
from netinv_lightning.metrics.reconstruction import (
    GOOD,
    Difference,
    Nearest,
    correlations,
    difference,
    matched,
    nearest,
)
from netinv_lightning.privacy.real_images import RealImages
from netinv_lightning.runs.tables import Cell, Table

RECONSTRUCTIONS = "reconstructions"
ASKED = 2000  # other real images, of which other networks are asked the class: enough for the ceiling of transfer
THE_SAME = 0.95
"""Correlation above which two reconstructions are nearly the same picture."""
LEAST_MEMBERS = 5
"""Fewer images of a class have no bootstrap interval worth the name."""
PLANTED_SHARE, PLANTED_NOISE = 0.1, 0.1
"""The planted control: so many of the members, with Gaussian noise of this standard deviation. What finds these finds a real leak."""


@dataclass(frozen=True)
class Pair:
    """A reconstruction, the nearest training image, and the nearest held-out image of its class, all [C, H, W] in [0, 1]."""

    reconstruction_CHW: Tensor
    member_CHW: Tensor
    held_out_CHW: Tensor
    label: int
    similarity: float
    similarity_held_out: float


@dataclass(frozen=True)
class Compared:
    """What the comparison of one set of images gave.

    Attributes:
        n: How many images.
        ncc: Members against held-out images, by normalised cross-correlation: what is concluded from.
        ssim: The same by structural similarity.
        nearest_member: Mean correlation of a member with its nearest image.
        nearest_held_out: The same of a held-out image.
        good: Share of pairs matched one to one with members above `GOOD` in structural similarity.
        good_held_out: The same of pairs with held-out images.
        classes: By the number of each class, its `ncc`.
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
        """By metric name."""
        values = {
            "auc": self.ncc.auc, "auc_low": self.ncc.auc_interval[0], "auc_high": self.ncc.auc_interval[1],
            "gap": self.ncc.gap, "gap_low": self.ncc.gap_interval[0], "gap_high": self.ncc.gap_interval[1],
            "p_value": self.ncc.p_value,
            "ssim_auc": self.ssim.auc, "ssim_gap": self.ssim.gap, "ssim_gap_low": self.ssim.gap_interval[0],
            "ssim_gap_high": self.ssim.gap_interval[1], "ssim_p_value": self.ssim.p_value,
            "nearest_member": self.nearest_member, "nearest_held_out": self.nearest_held_out,
            "good": self.good, "good_held_out": self.good_held_out,
        }  # fmt: skip
        numbers = {names.reconstruction(what): value for what, value in values.items()}
        return numbers | {
            names.reconstruction("auc_class", class_names[label]): of.auc
            for label, of in self.classes.items()
            if class_names
        }


def compare(images: Images, real: RealImages, seed: int = 0) -> Compared:
    """Compares reconstructions with members and held-out images.

    Args:
        images: The reconstructions, in [0, 1], with the classes that they were made for.
        real: The real images.
        seed: Of bootstrap and permutations.
    """
    x_nCHW, label_n = images.images_nCHW.float(), images.labels_n
    kinds = (real.members, real.held_out)
    members, held_out = (
        _with_neighbour(nearest(kind.images_nCHW, kind.labels_n, x_nCHW, label_n), kind.labels_n)
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
    return Compared(
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
class _Answers:
    """The similarities of the real images that have a reconstruction of their class, and their classes."""

    ncc_m: Tensor
    ssim_m: Tensor
    label_m: Tensor

    def of_class(self, label: int) -> _Answers:
        chosen = self.label_m == label
        return _Answers(self.ncc_m[chosen], self.ssim_m[chosen], self.label_m[chosen])


def _with_neighbour(found: Nearest, label_m: Tensor) -> _Answers:
    chosen = found.index_m >= 0
    return _Answers(found.ncc_m[chosen], found.ssim_m[chosen], label_m[chosen])


def best_pairs(images: Images, real: RealImages, count: int = 20) -> list[Pair]:
    """The reconstructions that lie nearest to training images, each matched with one of its own, best first; at most `count`.

    Of reconstructions that are nearly the same picture the best is shown.
    """
    x_nCHW, label_n = images.images_nCHW.float(), images.labels_n
    pairs = matched(real.members.images_nCHW, real.members.labels_n, x_nCHW, label_n)
    best: list[int] = []
    for c in pairs.ncc_c.argsort(descending=True).tolist():
        if len(best) == count:
            break
        alike = correlations(
            x_nCHW[pairs.reconstruction_c[[c]]], x_nCHW[pairs.reconstruction_c[best]]
        )
        if not (alike > THE_SAME).any():
            best.append(c)
    chosen_K = pairs.reconstruction_c[best]
    beside = nearest(
        x_nCHW[chosen_K], label_n[chosen_K], real.held_out.images_nCHW, real.held_out.labels_n
    )
    return [
        Pair(
            x_nCHW[n], real.members.images_nCHW[pairs.real_c[c]], real.held_out.images_nCHW[beside.index_m[k]], int(label_n[n]),
            float(pairs.ncc_c[c]), float(beside.ncc_m[k]),
        )
        for k, (c, n) in enumerate(zip(best, chosen_K.tolist(), strict=True))
    ]  # fmt: skip


def other_real_images(count: int, real: RealImages, seed: int) -> Images:
    """Real images that are neither members nor held out: real, and of no member."""
    source = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(real.others.labels_n), generator=source)[:count]
    return Images(real.others.images_nCHW[chosen], real.others.labels_n[chosen])


def class_means(count: int, real: RealImages, seed: int) -> Images:
    """The mean of each class over these other images: typical, and of no member."""
    labels = real.others.labels_n.unique()
    means = [real.others.images_nCHW[real.others.labels_n == label].mean(dim=0) for label in labels]
    return Images(torch.stack(means), labels)


def noise(count: int, real: RealImages, seed: int) -> Images:
    """Pixels uniform in [0, 1], with the classes of the members in turn."""
    source, like = torch.Generator().manual_seed(seed), real.members
    label_n = like.labels_n.unique().repeat(math.ceil(count / len(like.labels_n.unique())))[:count]
    return Images(torch.rand(count, *like.images_nCHW.shape[1:], generator=source), label_n)


def planted(count: int, real: RealImages, seed: int) -> Images:
    """A tenth of the members, noisy, among other real images: a leak that is known to be there."""
    source = torch.Generator().manual_seed(seed)
    m = len(real.members.labels_n)
    chosen = torch.randperm(m, generator=source)[: max(1, round(PLANTED_SHARE * m))]
    x_nCHW = real.members.images_nCHW[chosen]
    noisy = (x_nCHW + PLANTED_NOISE * torch.randn(x_nCHW.shape, generator=source)).clamp(0, 1)
    rest = other_real_images(count, real, seed)
    return Images(
        torch.cat([noisy, rest.images_nCHW]),
        torch.cat([real.members.labels_n[chosen], rest.labels_n]),
    )


CONTROLS: dict[str, Callable[[int, RealImages, int], Images]] = {
    "other real images": other_real_images,
    "class means": class_means,
    "noise": noise,
    "planted leak": planted,
}
"""By name: from a count, the real images and a seed to images that stand where reconstructions do. All but the last give nothing away."""


def comparison_table(
    title: str, rows: Mapping[str, Compared], real: RealImages, notes: Sequence[str] = ()
) -> Table:
    """A row a set of images: members against held-out images, with intervals, for reading."""
    table_rows: list[list[Cell]] = [
        [
            name, of.n, of.ncc.auc, interval(of.ncc.auc_interval), of.ncc.gap, interval(of.ncc.gap_interval), of.ncc.p_value, of.good,
            of.good_held_out,
        ]
        for name, of in rows.items()
    ]  # fmt: skip
    told = [
        f"{len(real.members.labels_n)} members of the training set against {len(real.held_out.labels_n)} held-out images ({real.source}), "
        "as many of each class",
        "AUC, gap: of a member's normalised cross-correlation with its nearest image over a held-out image's; 95 % by bootstrap; "
        f"p by permutation within classes{'' if real.exchangeable else ', approximate, since the two are splits of their own'}",
        f"good: share of the pairs matched one to one with members whose structural similarity is above {GOOD}, as papers count it; "
        "held: the share with held-out images, which is what typicality alone gives",
        f"planted leak: {PLANTED_SHARE:.0%} of the members, noisy, among other real images; what finds it finds a real one",
    ]
    columns = ("images", "n", "AUC", "95 %", "gap", "95 % of it", "p", "good", "held")
    return Table(title, columns, table_rows, [*told, *notes])


FULL = (
    "auc", "auc_low", "auc_high", "gap", "gap_low", "gap_high", "p_value", "ssim_auc", "ssim_gap", "ssim_gap_low", "ssim_gap_high",
    "ssim_p_value", "nearest_member", "nearest_held_out", "good", "good_held_out",
)  # fmt: skip


def full_table(rows: Mapping[str, Compared]) -> Table:
    """The same with every number in a cell of its own, for programs."""
    of_rows = {name: of.metrics(()) for name, of in rows.items()}
    cells: list[list[Cell]] = [
        [name, of.n, *(of_rows[name][names.reconstruction(what)] for what in FULL)]
        for name, of in rows.items()
    ]
    return Table("", ("images", "n", *FULL), cells)


def interval(ends: tuple[float, float]) -> str:
    return f"{ends[0]:z.2f} to {ends[1]:z.2f}"


def class_table(title: str, compared: Compared, class_names: Sequence[str]) -> Table:
    """A row a class."""
    rows: list[list[Cell]] = [
        [class_names[label], of.auc, *of.auc_interval, of.gap, *of.gap_interval, of.p_value]
        for label, of in compared.classes.items()
    ]
    return Table(
        title, ("class", "AUC", "AUC low", "AUC high", "gap", "gap low", "gap high", "p"), rows
    )


def recognised(verifiers: Sequence[FrozenClassifier], others: Images) -> float:
    """The ceiling of transfer: mean accuracy of the verifiers on other real images, 2,000 at most; 1 without any."""
    asked = stratified_indices(others.labels_n, min(len(others.labels_n), ASKED), 0)
    answers = [
        look(verifier, others.images_nCHW[asked]).logits_nN.argmax(dim=1) for verifier in verifiers
    ]
    right = [float((answer_n == others.labels_n[asked]).double().mean()) for answer_n in answers]
    return fmean(right) if right else 1.0


def mifid(
    images: Images, real: RealImages, verifiers: Mapping[str, FrozenClassifier]
) -> dict[str, float]:
    """Memorisation-informed Frechet distance to the members, in the penultimate features of networks that saw no attack (Bai et al. 2021).

    A verifier whose last layer is not fully connected is left out.
    """
    values = {}
    for name, verifier in verifiers.items():
        members_mD, made_nD = (
            look(verifier, x_nCHW).features_nD
            for x_nCHW in (real.members.images_nCHW, images.images_nCHW)
        )
        if members_mD is not None and made_nD is not None:
            values[names.of_network(names.reconstruction("mifid"), name)] = (
                memorisation_informed_distance(members_mD, made_nD)
            )
    return values
