"""Membership inference with shadow networks: LiRA and RMIA, from the log odds of each image.

A shadow network is trained as the attacked network was, on other images. For each image some of
them were trained with it, and the others without it.

Shape suffixes: m images, S shadow networks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

OFFLINE_SHARE = 0.3
"""The coefficient a of offline RMIA, which estimates the probability of an image under all networks
from those trained without it; the default of the authors' code."""


def lira_online(score_m: Tensor, shadow_Sm: Tensor, included_Sm: Tensor) -> Tensor:
    """Return the log likelihood ratio of each image (Carlini et al. 2022, arXiv 2112.03570), [m].

    The log odds of an image are Gaussian, with a mean of its own among the networks trained with
    it, and another one among those trained without it. All images share one variance of each kind,
    because few networks do not determine a variance per image.

    Args:
        score_m: Log odds of the image's class by the attacked network.
        shadow_Sm: The same by each shadow network.
        included_Sm: Whether each shadow network was trained with the image.
    """
    likelihoods = []
    for chosen_Sm in (included_Sm, ~included_Sm):
        mean_m, deviation = _mean_and_deviation(shadow_Sm, chosen_Sm)
        likelihoods.append(-(((score_m - mean_m) / deviation) ** 2) / 2 - deviation.log())
    return likelihoods[0] - likelihoods[1]


def lira_offline(score_m: Tensor, shadow_Sm: Tensor, included_Sm: Tensor) -> Tensor:
    """Return how far each score lies above those of the networks trained without the image, [m].

    It is in standard deviations, which order images as the one-sided test of Carlini et al. does.
    Arguments as for `lira_online`.
    """
    mean_m, deviation = _mean_and_deviation(shadow_Sm, ~included_Sm)
    return (score_m - mean_m) / deviation


def rmia(score_m: Tensor, shadow_Sm: Tensor, included_Sm: Tensor, *, online: bool = True) -> Tensor:
    """Return the log ratio log(p / mean p) of each image (Zarifzadeh et al. 2024, arXiv
    2312.03262), [m].

    RMIA counts the population images whose ratio is smaller by a factor. For one attacked network
    this count increases with the ratio of the image, so the ratio itself orders images as RMIA
    does, without ties.

    Args:
        score_m: Log odds of the image's class by the attacked network.
        shadow_Sm: The same by each shadow network.
        included_Sm: Whether each shadow network was trained with the image.
        online: Whether the mean includes networks trained with the image; otherwise it is estimated
            as (1 + a) / 2 times the mean without them, plus (1 - a) / 2.
    """
    probability_Sm = shadow_Sm.sigmoid()
    mean_out_m = _mean(probability_Sm, ~included_Sm)
    if online:
        mean_m = (_mean(probability_Sm, included_Sm) + mean_out_m) / 2
    else:
        mean_m = (1 + OFFLINE_SHARE) / 2 * mean_out_m + (1 - OFFLINE_SHARE) / 2
    return F.logsigmoid(score_m) - mean_m.log()


def _mean(value_Sm: Tensor, chosen_Sm: Tensor) -> Tensor:
    """Return the mean of the chosen values of each image, [m]."""
    return (value_Sm * chosen_Sm).sum(dim=0) / chosen_Sm.sum(dim=0)


def _mean_and_deviation(value_Sm: Tensor, chosen_Sm: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of each image, [m], and one standard deviation of all chosen values."""
    mean_m = _mean(value_Sm, chosen_Sm)
    square = (((value_Sm - mean_m) ** 2) * chosen_Sm).sum()
    freedom = (chosen_Sm.sum() - value_Sm.shape[1]).clamp_min(1)
    return mean_m, (square / freedom).sqrt().clamp_min(torch.finfo(value_Sm.dtype).tiny)
