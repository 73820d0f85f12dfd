"""Images as sums of the lowest spatial frequencies: a basis with few dimensions for black boxes.

    c [n, C, K1, K2] -> scale by 1 / frequency -> inverse discrete cosine transform -> + offset
        -> sigmoid -> image [n, C, H, W]

An evolution strategy needs more queries the more dimensions it searches. Images of objects have
most of their energy at low frequencies, with amplitudes that fall as 1/f.

Shape suffixes: n images, C channels, H height, W width, K frequencies along one side, S pixels
along one side.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.inversion.output_range import to_unit_interval

DARKEST = 0.05
"""Mean pixel values below this, or above 1 minus this, are not used as the offset."""


def cosine_matrix(side: int, frequencies: int) -> Tensor:
    """Return the lowest vectors of the orthonormal DCT-II, [K, S] (Ahmed et al. 1974).

    phi_k(i) = sqrt(2 / S) cos(pi k (i + 1/2) / S),   phi_0(i) = sqrt(1 / S)
    """
    k_K1 = torch.arange(frequencies, dtype=torch.float64)[:, None]
    i_S = torch.arange(side, dtype=torch.float64) + 0.5
    phi_KS = math.sqrt(2 / side) * torch.cos(math.pi / side * k_K1 * i_S)
    phi_KS[0] /= math.sqrt(2)
    return phi_KS.float()


class CosineBasis:
    """Maps coefficients to images, signals or tables in [0, 1].

    With c ~ N(0, s^2) the input of the sigmoid has mean variance s^2. The coefficient 0 is the mean
    training pixel, if the normalisation of the classifier is known, else grey. Features of tables
    have one coefficient each.

    Args:
        classifier: Its shape, groups and normalisation are used.
        frequencies: Lowest frequencies per side; None for one coefficient per pixel, without scale.
    """

    def __init__(self, classifier: FrozenClassifier, frequencies: int | None) -> None:
        spec, device = classifier.spec, classifier.mean_C11.device
        self.groups = spec.groups
        counts = [side if frequencies is None else min(frequencies, side) for side in spec.sides]
        self.shape = (spec.channels, *counts)
        self.matrices = [
            (torch.eye(side) if frequencies is None else cosine_matrix(side, count)).to(device)
            for side, count in zip(spec.sides, counts, strict=True)
        ]
        self.scale = self._scale(counts, math.prod(spec.sides), frequencies).to(device)
        mean_C11 = classifier.mean_C11.float().clamp(DARKEST, 1 - DARKEST)
        self.offset_C11 = mean_C11.logit() if classifier.normalises else torch.zeros_like(mean_C11)

    @staticmethod
    def _scale(counts: list[int], pixels: int, frequencies: int | None) -> Tensor:
        """Return the amplitude of each frequency; their mean energy per pixel is 1."""
        if frequencies is None or not counts:
            return torch.ones(())
        axes = torch.meshgrid([torch.arange(count) for count in counts], indexing="ij")
        frequency = torch.stack([axis.square() for axis in axes]).sum(dim=0).sqrt()
        amplitude = 1 / frequency.clamp_min(1.0)
        return amplitude * math.sqrt(pixels / float(amplitude.square().sum()))

    @property
    def dimensions(self) -> int:
        """Number of coefficients of an image."""
        return math.prod(self.shape)

    def __call__(self, c_nK: Tensor) -> Tensor:
        """Return images [n, C, H, W] for coefficients [n, K]."""
        values = c_nK.unflatten(1, self.shape) * self.scale
        for matrix_KS in self.matrices:  # each turns the first side and moves it to the end
            values = torch.tensordot(values, matrix_KS, dims=([2], [0]))
        return to_unit_interval(values + self.offset_C11, self.groups)
