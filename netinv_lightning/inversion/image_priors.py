"""Priors of natural images that need no statistics stored in the classifier.

With several processes the value is that of the whole batch, as in `losses.py`.

Shape suffixes: B batch, C channels, H height, W width, R radii of frequencies, T tokens, D width of
a token, K compared tokens, M pairs of tokens, G grid of similarities.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.training.distributed import sum_over_ranks, world_size
from netinv_lightning.training.float32 import in_float32

LEAST_POWER = 1e-12
"""Added to the power of each radius before the logarithm, in squared units of the pixel range."""


@in_float32
def amplitudes(x_BCHW: Tensor) -> Tensor:
    """Return the logarithm of the amplitude spectrum of the batch, by radius, [R].

    The power of the Fourier transform, |F|^2 / (H W)^2, is averaged over images, channels and all
    frequencies whose rounded radius is r = 1, ..., R, in cycles per shorter side; R is half that
    side. The amplitude is its square root.
    """
    H, W = x_BCHW.shape[2:]
    shorter = min(H, W)
    along_H, along_W = (torch.fft.fftfreq(n, device=x_BCHW.device) * shorter for n in (H, W))
    radius_HW = (along_H[:, None].square() + along_W[None].square()).sqrt().round()
    radius_R = torch.arange(1, shorter // 2 + 1, device=x_BCHW.device)
    ring_RP = (radius_HW.flatten() == radius_R[:, None]).to(x_BCHW.dtype)
    power_BCHW = torch.view_as_real(torch.fft.fft2(x_BCHW, norm="forward")).square().sum(dim=-1)
    power_HW = sum_over_ranks(power_BCHW.mean(dim=(0, 1))) / world_size()
    power_R = ring_RP @ power_HW.flatten() / ring_RP.sum(dim=1)
    return (power_R + LEAST_POWER).log() / 2


@in_float32
def power_law_distance(x_BCHW: Tensor, slope: float = 1.2) -> Tensor:
    """Distance of the amplitude spectrum A of the batch to a power law of the radius r.

        1/R sum_r (log A(r) + slope log r - c)^2,   c the mean of log A(r) + slope log r

    Amplitude spectra of photographs fall as r^-1, or with a slope of 0.8 to 1.5, 1.2 on average
    (Tolhurst, Tadmor and Chao 1992, Ophthalmic and Physiological Optics 12(2)). This holds better
    for sets of images than for single images (Langer 2000, JOSA A 17(1)); therefore the spectrum of
    the batch is compared. MACO (Fel et al. 2023, arXiv:2306.06805) fixes the amplitude of each
    image to that of real images and optimises the phase. Here no data are available, and the size
    and contrast of objects differ between images, so only the slope is known.

    Args:
        x_BCHW: Images of at least 4 x 4 pixels.
        slope: Slope of the power law, 0 or more; 0 is the spectrum of white noise.
    """
    log_amplitude_R = amplitudes(x_BCHW)
    radius_R = torch.arange(1, len(log_amplitude_R) + 1, device=x_BCHW.device)
    return (log_amplitude_R + slope * radius_R.log()).var(correction=0)


@in_float32
def similarity_divergence(t_BTD: Tensor, bandwidth: float = 0.05, tokens: int = 16) -> Tensor:
    """Divergence of the cosine similarities of an image's tokens from a uniform distribution.

        log 2 - H,   H = -int f(s) log f(s) ds,   f the density of the similarities s of two tokens

    H is the differential entropy, which PSAQ-ViT maximises (Li et al. 2022, arXiv:2203.02250). The
    tokens of noise are all similar; the tokens of a real image are similar within an object and
    differ between objects. f is a sum of normal densities. The result, a mean over the images, is
    the Kullback-Leibler divergence from the uniform distribution over [-1, 1], except for the tails
    of f outside of [-1, 1].

    Args:
        t_BTD: Tokens.
        bandwidth: Standard deviation of the normal densities.
        tokens: Number of tokens that are compared, evenly spaced; all if there are fewer.
    """
    T = t_BTD.shape[1]
    chosen_K = torch.linspace(0, T - 1, min(T, tokens), device=t_BTD.device).round().long()
    unit_BKD = F.normalize(t_BTD[:, chosen_K], dim=2)
    first_M, second_M = torch.triu_indices(len(chosen_K), len(chosen_K), 1, device=t_BTD.device)
    similarity_BM = (unit_BKD @ unit_BKD.transpose(1, 2))[:, first_M, second_M]
    reach = math.ceil(1 / bandwidth) + 5  # 5 deviations outside of [-1, 1]
    grid_G = bandwidth * torch.arange(-reach, reach + 1, device=t_BTD.device)
    distance_BMG = (similarity_BM[:, :, None] - grid_G) / bandwidth
    density_BG = (-distance_BMG.square() / 2).exp().mean(dim=1) / (bandwidth * math.sqrt(math.tau))
    entropy_B = torch.special.entr(density_BG.clamp_min(1e-30)).sum(dim=1) * bandwidth
    return math.log(2) - entropy_B.mean()


@in_float32
def total_variation(x_BCHW: Tensor) -> Tensor:
    """Sum of the norms of the differences of neighbouring pixels, as in DeepInversion's code.

        sum_d |x - shift_d(x)|_2,   d = across, down, and both diagonals

    Each norm is over the whole batch. Signals have one difference, along their length.
    """
    if x_BCHW.dim() == 3:
        return _norm(x_BCHW[:, :, 1:] - x_BCHW[:, :, :-1])
    return (
        _norm(x_BCHW[..., :-1] - x_BCHW[..., 1:])
        + _norm(x_BCHW[..., :-1, :] - x_BCHW[..., 1:, :])
        + _norm(x_BCHW[..., 1:, :-1] - x_BCHW[..., :-1, 1:])
        + _norm(x_BCHW[..., :-1, :-1] - x_BCHW[..., 1:, 1:])
    )


def _norm(x: Tensor) -> Tensor:
    """Return the Euclidean norm of all numbers over all ranks; its derivative at 0 is finite."""
    return (sum_over_ranks(x.square().sum()) + 1e-12).sqrt()
