"""AUROCs on paired resamples, and the difference between two norms at equal size.

Shape suffixes: n unperturbed images, m perturbed images, D detectors, S the sample and its
resamples, K settings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from netinv_lightning.metrics.detection import INTERVAL, RESAMPLES
from netinv_lightning.ood.perturbation_results import NormGain

SIZE_TOLERANCE = 1.01
"""Largest ratio of RMS changes that count as equal, because random perturbations vary."""


@dataclass(frozen=True)
class Strength:
    """One strength of one kind of perturbation.

    Attributes:
        rms: Mean RMS change that is reached.
        auroc_DS: AUROCs of every detector on the sample and its resamples.
    """

    rms: float
    auroc_DS: Tensor


class PairedBootstrap:
    """AUROCs of a sample and of resamples; all calls share the resamples, for paired differences.

    Args:
        n: Number of unperturbed images.
        m: Number of perturbed images.
        seed: Seed of the resamples.
    """

    def __init__(self, n: int, m: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.count_Sn, self.count_Sm = self._draw(n, generator), self._draw(m, generator)

    def aurocs(self, score_n: Tensor, score_m: Tensor) -> Tensor:
        """Return the AUROCs [S] in double precision, that of the sample first; ties count half."""
        n, m = len(score_n), len(score_m)
        values_n, order_n = score_n.sort()
        below_Sn = torch.cat(
            [
                self.count_Sn.new_zeros(len(self.count_Sn), 1),
                self.count_Sn[:, order_n].cumsum(dim=1),
            ],
            dim=1,
        )
        beaten_Sm = (
            below_Sn[:, torch.searchsorted(values_n, score_m)]
            + below_Sn[:, torch.searchsorted(values_n, score_m, right=True)]
        ) / 2
        return (beaten_Sm * self.count_Sm).sum(dim=1) / (n * m)

    @staticmethod
    def _draw(size: int, generator: torch.Generator) -> Tensor:
        """Return how often each image occurs in the sample (once) and in each resample."""
        drawn_Sn = torch.randint(size, (RESAMPLES, size), generator=generator)
        count_Sn = torch.zeros(RESAMPLES, size, dtype=torch.double).scatter_add_(
            1, drawn_Sn, torch.ones(1).double().expand(RESAMPLES, size)
        )
        return torch.cat([torch.ones(1, size, dtype=torch.double), count_Sn])


def norm_gain(
    direction: str,
    norm: str,
    strengths: Sequence[Strength],
    baseline: Sequence[Strength],
    seed: int,
) -> NormGain:
    """Compare each strength of a norm with the Linf perturbation of the same size.

    Args:
        direction: Direction of both.
        norm: Norm of `strengths`.
        strengths: Strengths of the norm; those larger than every Linf strength are ignored.
        baseline: Strengths of Linf, in ascending order, starting at size 0.
        seed: Seed of the resamples of settings.
    """
    compared = [
        (strength.auroc_DS, interpolate(baseline, strength.rms))
        for strength in strengths
        if strength.rms <= SIZE_TOLERANCE * baseline[-1].rms
    ]
    if not compared:
        return NormGain(direction, norm, 0, 0, *[math.nan] * 4)
    difference_KS = torch.cat([auroc_DS - linf_DS for auroc_DS, linf_DS in compared])
    difference_K, resampled_KS = difference_KS[:, 0], difference_KS[:, 1:]
    drawn_KS = torch.randint(
        len(difference_K), resampled_KS.shape, generator=torch.Generator().manual_seed(seed)
    )
    mean_S = resampled_KS.gather(0, drawn_KS).mean(dim=0)
    low, high = mean_S.quantile(
        mean_S.new_tensor([(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
    ).tolist()
    return NormGain(
        direction,
        norm,
        settings=len(difference_K),
        higher=int((difference_K > 0).sum()),
        mean=float(difference_K.mean()),
        low=low,
        high=high,
        spread=float(difference_K.std(correction=0)),
    )


def interpolate(strengths: Sequence[Strength], rms: float) -> Tensor:
    """Interpolate the AUROCs [D, S] at a size, linear in log(1 + size / smallest).

    The scale is logarithmic because strengths usually form a geometric sequence.

    Args:
        strengths: Two or more in ascending order, starting at size 0.
        rms: The size; above the last strength, its value is returned.
    """
    upper = next(
        (i for i in range(1, len(strengths)) if strengths[i].rms >= rms), len(strengths) - 1
    )
    start, at, end = (
        math.log1p(size / strengths[1].rms)
        for size in (strengths[upper - 1].rms, min(rms, strengths[upper].rms), strengths[upper].rms)
    )
    return torch.lerp(
        strengths[upper - 1].auroc_DS, strengths[upper].auroc_DS, (at - start) / (end - start)
    )
