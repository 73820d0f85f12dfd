"""Opponent colours: a generator that makes brightness and colour differences instead of RGB.

The channels of natural images are strongly correlated: they differ mainly in brightness. Maps along
the axes of Ohta, Kanade and Sakai (1980, "Color information for region segmentation") are nearly
uncorrelated, and images that are optimised in them get natural colours earlier; Olah, Mordvintsev
and Schubert (2017, "Feature visualization", distill.00007) call it a preconditioner.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor

AXES = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (-0.5, 1.0, -0.5))
"""Brightness, red against blue, green against the mean of both: the RGB values of each axis."""
SCALES = (2.0, 0.7, 0.35)
"""Logits per unit of each axis. Colour differences vary less than brightness in photographs."""


def rgb_of_opponent(x_BCHW: Tensor) -> Tensor:
    """Convert maps along the three axes to RGB maps, [B, 3, H, W]."""
    axes_CC = x_BCHW.new_tensor(AXES).T * x_BCHW.new_tensor(SCALES)
    return torch.einsum("rc,bchw->brhw", axes_CC, x_BCHW)
