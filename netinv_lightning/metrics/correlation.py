"""Normalised cross-correlation of images.

Shape suffixes: n images, P pixels of all channels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def unit_rows(images: Tensor) -> Tensor:
    """Flatten images and scale each to mean 0 and norm 1, [n, P]; an image of one colour becomes 0.

    The dot product of two such rows is the normalised cross-correlation of the images, in [-1, 1].
    """
    x_nP = images.flatten(1)
    return F.normalize(x_nP - x_nP.mean(dim=1, keepdim=True), dim=1)
