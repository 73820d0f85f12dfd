"""Maps from free parameters to images in [0, 1], over which a method descends.

`PARAMETRISATIONS` lists them by name. Each has the shape of the parameters of an image and returns
the images [B, C, H, W] of parameters [B, ...]; `project` keeps parameters valid after a step.

Shape suffixes: B batch, C channels, H height, W width, F frequencies along the width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from netinv_lightning.data.specs import DataSpec
from netinv_lightning.inversion.opponent_colours import rgb_of_opponent
from netinv_lightning.inversion.output_range import to_unit_interval


class Parametrisation:
    """Base of the maps.

    Args:
        spec: Shape, groups and normalisation of the images.
        device: The device of the parameters.
    """

    images_only = True
    """Whether it needs images, because it uses frequencies of height and width."""
    shape: tuple[int, ...]

    def __init__(self, spec: DataSpec, device: torch.device) -> None:
        self.shape = spec.shape

    def __call__(self, theta: Tensor) -> Tensor:
        raise NotImplementedError

    def project(self, theta: Tensor) -> None:
        """Change the parameters in place so that they are valid; by default all are."""


class Pixel(Parametrisation):
    """One parameter per pixel: image = sigmoid(theta); one-hot features are a softmax."""

    images_only = False

    def __init__(self, spec: DataSpec, device: torch.device) -> None:
        super().__init__(spec, device)
        self.groups = spec.groups

    def __call__(self, theta: Tensor) -> Tensor:
        return to_unit_interval(theta, self.groups)


class Normalised(Parametrisation):
    """Normalised pixels, clipped to the pixel range: image = mean + std theta, as in DeepInversion.

    With theta ~ N(0, 1) the first images have the mean and the standard deviation of the training
    pixels. Clipping after each step is that of Yin et al. (2020, arXiv:1912.08795, published code).
    """

    images_only = False

    def __init__(self, spec: DataSpec, device: torch.device) -> None:
        super().__init__(spec, device)
        per_channel = (-1, *[1] * len(spec.sides))
        self.mean_C11 = torch.tensor(spec.unit_mean, device=device).view(per_channel)
        self.std_C11 = torch.tensor(spec.unit_std, device=device).view(per_channel)

    def __call__(self, theta: Tensor) -> Tensor:
        return (self.mean_C11 + self.std_C11 * theta).clamp(0, 1)

    def project(self, theta: Tensor) -> None:
        theta.copy_((self(theta) - self.mean_C11) / self.std_C11)


class Fourier(Parametrisation):
    """Two parameters per spatial frequency f, scaled by 1/f like the amplitudes of natural images.

    Each step of Adam then changes coarse structure more than fine structure (Olah,
    Mordvintsev and Schubert 2017, "Feature visualization", distill.00007).
    With theta ~ N(0, s^2) the input of the sigmoid has variance s^2, as with `Pixel`. Colours are
    not decorrelated.
    """

    def __init__(self, spec: DataSpec, device: torch.device) -> None:
        channels, height, width = spec.shape
        self.sides = height, width
        self.shape = (2, channels, height, width // 2 + 1)
        across_F = torch.fft.rfftfreq(width)
        f_HF = torch.hypot(torch.fft.fftfreq(height)[:, None], across_F)
        scale_HF = 1 / f_HF.clamp_min(1 / max(height, width))
        # A frequency represents its conjugate too, which is not stored.
        share_F = torch.where((across_F == 0) | (across_F == 0.5), 1.0, 4.0)
        root = math.sqrt(height * width)
        self.scale_HF = (scale_HF * root / (scale_HF.square() * share_F).sum().sqrt()).to(device)

    def __call__(self, theta: Tensor) -> Tensor:
        return self.before_sigmoid(theta).sigmoid()

    def before_sigmoid(self, theta: Tensor) -> Tensor:
        """Return the input [B, C, H, W] of the sigmoid."""
        spectrum_BCHF = torch.complex(theta[:, 0], theta[:, 1]) * self.scale_HF
        return torch.fft.irfft2(spectrum_BCHF, s=self.sides, norm="ortho")


class OpponentFourier(Fourier):
    """`Fourier` with decorrelated colours, as in Lucid.

    Lucid (Olah et al. 2017, distill.00007, published code) decorrelates colours by a matrix that
    was measured on ImageNet. Without data, the opponent axes of `opponent_colours.py` replace it.
    Images that do not have three channels are those of `Fourier`.
    """

    def __call__(self, theta: Tensor) -> Tensor:
        return to_rgb(self.before_sigmoid(theta)).sigmoid()


class Phase(Fourier):
    """One parameter per spatial frequency, its phase; the magnitude is fixed, as in MACO.

        image = sigmoid(colours(standardise(F^-1(r exp(i standardise(theta))))))

    MACO (Fel et al. 2023, arXiv:2306.06805) fixes the magnitude r to the mean of ImageNet. Without
    data r is 1/f, which holds on average for photographs. As in the published code, the phases and
    the values before the sigmoid have mean 0 and variance 1 in each image. As the parameters grow,
    a step of NAdam changes the phases less. Colours are decorrelated as in `OpponentFourier`.
    """

    def __init__(self, spec: DataSpec, device: torch.device) -> None:
        super().__init__(spec, device)
        self.shape = self.shape[1:]

    def __call__(self, theta: Tensor) -> Tensor:
        phase = standardised(theta)
        waves = torch.stack([phase.cos(), phase.sin()], dim=1)
        return to_rgb(standardised(self.before_sigmoid(waves))).sigmoid()


def standardised(x_BCHW: Tensor) -> Tensor:
    """Return the values of each image with mean 0 and variance 1."""
    over = (1, 2, 3)
    std_B111 = x_BCHW.std(dim=over, keepdim=True).clamp_min(1e-4)
    return (x_BCHW - x_BCHW.mean(dim=over, keepdim=True)) / std_B111


def to_rgb(x_BCHW: Tensor) -> Tensor:
    """Return RGB maps of maps along opponent axes; other numbers of channels are not changed."""
    return rgb_of_opponent(x_BCHW) if x_BCHW.shape[1] == 3 else x_BCHW


PARAMETRISATIONS: dict[str, type[Parametrisation]] = {
    "pixel": Pixel,
    "normalised": Normalised,
    "fourier": Fourier,
    "opponent_fourier": OpponentFourier,
    "phase": Phase,
}
"""The maps by the name that `method.parametrisation` selects."""
