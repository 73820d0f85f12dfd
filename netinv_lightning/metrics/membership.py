"""Similarity of reconstructions to training images (members) and to held-out images (non-members).

For every real image the nearest reconstruction of its class is found by normalised
cross-correlation, and its structural similarity is computed too (Haim et al. 2022, arXiv
2206.07758). If the reconstructions contain only class information, members and non-members score
the same; if training images were recovered, members score higher. The held-out images are a
control, without which well-matched pairs prove nothing. Members and non-members have the same
number of images per class. Two tests show whether a difference is due to chance: a bootstrap over
the images, and permutations of the membership labels within each class. The latter are exact if
both sets are a random split of one source.

Shape suffixes: n reconstructions, m real images of one kind, h held-out images, R resamples, S
permutations, c pairs matched one to one, x images of a class, P pixels, C channels, H height, W
width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from netinv_lightning.metrics.correlation import unit_rows

GOOD = 0.4
"""Structural similarity above which a pair counts as a good reconstruction, as in the work that
followed Haim et al. (2022). It is a low threshold, so held-out images are needed for comparison.
"""
RESAMPLES = 999
"""Number of bootstrap resamples, and of permutations."""
SSIM_BATCH = 500


@dataclass(frozen=True)
class Nearest:
    """The nearest reconstruction of the same class for each of m real images.

    Attributes:
        index_m: Index of the reconstruction; -1 if its class has none.
        ncc_m: Normalised cross-correlation with it, -1 to 1; NaN if there is none.
        ssim_m: Structural similarity with it, -1 to 1; NaN if there is none.
    """

    index_m: Tensor
    ncc_m: Tensor
    ssim_m: Tensor


@dataclass(frozen=True)
class Pairs:
    """Reconstructions and real images matched one to one within each class; no image counts twice.

    Attributes:
        reconstruction_c: Indices of the reconstructions.
        real_c: Indices of the real images.
        ncc_c: Their normalised cross-correlation.
        ssim_c: Their structural similarity.
    """

    reconstruction_c: Tensor
    real_c: Tensor
    ncc_c: Tensor
    ssim_c: Tensor

    @property
    def good(self) -> float:
        """Share of the pairs above `GOOD`."""
        return float((self.ssim_c > GOOD).double().mean())


@dataclass(frozen=True)
class Difference:
    """Difference of the similarities of members and held-out images.

    Attributes:
        auc: Probability that the similarity of a member exceeds that of a held-out image; 0.5 if
            there is no difference.
        auc_interval: Its 95 % bootstrap confidence interval.
        gap: Difference of the means.
        gap_interval: Its 95 % bootstrap confidence interval.
        p_value: Share of the permutations within classes with a gap at least as large, including
            the true one.
    """

    auc: float
    auc_interval: tuple[float, float]
    gap: float
    gap_interval: tuple[float, float]
    p_value: float


def nearest(real_mCHW: Tensor, real_label_m: Tensor, x_nCHW: Tensor, label_n: Tensor) -> Nearest:
    """Find the nearest reconstruction of each real image among those of its class.

    Args:
        real_mCHW: Real images in [0, 1].
        real_label_m: Their classes.
        x_nCHW: Reconstructions in [0, 1].
        label_n: The classes that they were generated for.
    """
    index_m, ncc_m = most_correlated(real_mCHW, real_label_m, x_nCHW, label_n)
    found = index_m >= 0
    ssim_m = torch.full((len(real_mCHW),), torch.nan)
    ssim_m[found] = structural_similarity(real_mCHW[found], x_nCHW[index_m[found]])
    return Nearest(index_m, ncc_m, ssim_m)


def most_correlated(
    real_mCHW: Tensor, real_label_m: Tensor, x_nCHW: Tensor, label_n: Tensor
) -> tuple[Tensor, Tensor]:
    """Return index and correlation of the nearest reconstruction; see `Nearest`."""
    m = len(real_mCHW)
    index_m, ncc_m = torch.full((m,), -1), torch.full((m,), torch.nan)
    for label in real_label_m.unique():
        targets, candidates = _members(real_label_m, label), _members(label_n, label)
        if len(candidates):
            ncc_m[targets], best = correlations(real_mCHW[targets], x_nCHW[candidates]).max(dim=1)
            index_m[targets] = candidates[best]
    return index_m, ncc_m


def matched(real_mCHW: Tensor, real_label_m: Tensor, x_nCHW: Tensor, label_n: Tensor) -> Pairs:
    """Match reconstructions and real images of each class one to one (Kuhn 1955).

    The sum of their correlations is maximised. Surplus images of the larger set stay unmatched.
    Arguments as for `nearest`.
    """
    reconstructions, reals, found = [], [], []
    for label in real_label_m.unique():
        targets, candidates = _members(real_label_m, label), _members(label_n, label)
        ncc = correlations(real_mCHW[targets], x_nCHW[candidates])
        rows, columns = (
            torch.from_numpy(chosen) for chosen in linear_sum_assignment(ncc.numpy(), maximize=True)
        )
        reals.append(targets[rows])
        reconstructions.append(candidates[columns])
        found.append(ncc[rows, columns])
    reconstruction_c, real_c = torch.cat(reconstructions), torch.cat(reals)
    return Pairs(
        reconstruction_c,
        real_c,
        torch.cat(found),
        structural_similarity(x_nCHW[reconstruction_c], real_mCHW[real_c]),
    )


def difference(
    member_m: Tensor,
    member_label_m: Tensor,
    held_out_m: Tensor,
    held_out_label_m: Tensor,
    seed: int = 0,
    *,
    resamples: int = RESAMPLES,
) -> Difference:
    """Compare the similarities of members and of held-out images.

    Args:
        member_m: A similarity for each member.
        member_label_m: Their classes.
        held_out_m: A similarity for each held-out image.
        held_out_label_m: Their classes.
        seed: Seed of resamples and permutations.
        resamples: Number of resamples, and of permutations.
    """
    source = torch.Generator().manual_seed(seed)
    members, held_out = member_m.double(), held_out_m.double()
    gap = float(members.mean() - held_out.mean())
    times_Rm, times_Rh = (
        _resamples(len(values), resamples, source) for values in (members, held_out)
    )
    above_mh = (members[:, None] > held_out).float() + (members[:, None] == held_out).float() / 2
    aucs_R = ((times_Rm @ above_mh) * times_Rh).sum(dim=1).double() / above_mh.numel()
    gaps_R = times_Rm.double() @ members / len(members) - times_Rh.double() @ held_out / len(
        held_out
    )
    pooled, labels = torch.cat([members, held_out]), torch.cat([member_label_m, held_out_label_m])
    is_member = torch.cat([torch.ones(len(members)), torch.zeros(len(held_out))]).double()
    # Sum of the similarities of the images that a permutation labels as members.
    total_S = torch.zeros(resamples, dtype=torch.float64)
    for label in labels.unique():
        of_class = _members(labels, label)
        order_Sx = torch.rand(resamples, len(of_class), generator=source).argsort(dim=1)
        total_S += is_member[of_class][order_Sx] @ pooled[of_class]
    null_S = total_S / len(members) - (pooled.sum() - total_S) / len(held_out)
    as_large = int((null_S >= gap - 1e-12).sum())
    return Difference(
        auc_of(members, held_out),
        _interval(aucs_R),
        gap,
        _interval(gaps_R),
        (1 + as_large) / (1 + resamples),
    )


def _resamples(n: int, resamples: int, source: torch.Generator) -> Tensor:
    """Return how often each of n values is drawn in each bootstrap resample, [R, n]."""
    drawn_Rn = torch.randint(n, (resamples, n), generator=source)
    return torch.zeros(resamples, n).scatter_add_(1, drawn_Rn, torch.ones(resamples, n))


def _interval(values_R: Tensor) -> tuple[float, float]:
    low, high = torch.quantile(values_R, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def auc_of(above: Tensor, below: Tensor) -> float:
    """Return the probability that a value of the first set exceeds one of the second.

    Ties count one half (Mann and Whitney 1947).
    """
    ordered = below.double().contiguous().sort().values
    values = above.double().contiguous()
    under = torch.searchsorted(ordered, values, right=False) + torch.searchsorted(
        ordered, values, right=True
    )
    return float(under.double().mean() / (2 * len(ordered)))


def structural_similarity(x_cCHW: Tensor, y_cCHW: Tensor) -> Tensor:
    """Return the structural similarity, -1 to 1, of c pairs of images in [0, 1] (Wang et al. 2004),
    [c].
    """
    if not len(x_cCHW):
        return torch.empty(0)
    parts = zip(x_cCHW.split(SSIM_BATCH), y_cCHW.split(SSIM_BATCH), strict=True)
    values = [
        structural_similarity_index_measure(x, y, data_range=1.0, reduction="none")
        for x, y in parts
    ]
    return torch.cat([value.reshape(-1) for value in values if isinstance(value, Tensor)])


def _members(labels: Tensor, label: Tensor) -> Tensor:
    return (labels == label).nonzero().flatten()


def correlations(a_aCHW: Tensor, b_bCHW: Tensor) -> Tensor:
    """Return the normalised cross-correlation of every pair of two sets, [a, b].

    It is the dot product of images whose pixels have mean 0 and norm 1.
    """
    return unit_rows(a_aCHW) @ unit_rows(b_bCHW).T
