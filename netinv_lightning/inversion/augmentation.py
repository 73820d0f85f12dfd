"""Random views of generated images, between generator and classifier: what is only noise to others does not survive them.

Small affine maps and bounded noise, as DeepInversion and feature visualisation use; each image gets draws of its own.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.training.distributed import Stream


class Augmentation:
    """Shows the classifier a random view of each image; differentiable. With all at 0 images stay as they are.

    Each image is rotated, scaled, sheared and shifted by uniform draws in one bilinear resampling that repeats the border,
    mirrored with probability 1/2, and given uniform noise whose bound is drawn from [0, `noise`].

    Args:
        shift: Largest shift down and across, in pixels.
        rotation: Largest angle, in degrees.
        scale: Largest relative change of size, below 1.
        shear: Largest shear, as a share of the height.
        flip: Mirror half of the images.
        noise: Largest bound of the noise, in units of the pixel range.

    Raises:
        ValueError: if a value is out of range; it starts with `<argument>=<value>:`.
    """

    def __init__(
        self,
        shift: float = 0.0,
        rotation: float = 0.0,
        scale: float = 0.0,
        shear: float = 0.0,
        flip: bool = False,
        noise: float = 0.0,
    ) -> None:
        for name, value in {
            "shift": shift,
            "rotation": rotation,
            "scale": scale,
            "shear": shear,
            "noise": noise,
        }.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}={value}: must be a finite number, 0 or more")
        if scale >= 1:
            raise ValueError(f"scale={scale}: must be below 1")
        self.shift, self.rotation, self.scale, self.shear, self.flip, self.noise = (
            shift,
            rotation,
            scale,
            shear,
            flip,
            noise,
        )

    @property
    def moves(self) -> bool:
        return bool(self.shift or self.rotation or self.scale or self.shear or self.flip)

    def __call__(self, x_BCHW: Tensor, stream: Stream) -> Tensor:
        """Views of images in [0, 1], in [0, 1]."""
        B = len(x_BCHW)
        if self.moves:
            draws = (2 * stream.uniform(B, 6) - 1).to(x_BCHW.dtype).unbind(dim=1)
            grid_BHW2 = F.affine_grid(
                self._maps(x_BCHW, *draws), list(x_BCHW.shape), align_corners=False
            )
            x_BCHW = F.grid_sample(x_BCHW, grid_BHW2, padding_mode="border", align_corners=False)
        if self.noise:
            bound_B111 = self.noise * stream.uniform(B, 1, 1, 1)
            x_BCHW = (x_BCHW + bound_B111 * (2 * stream.uniform(*x_BCHW.shape) - 1)).clamp(0, 1)
        return x_BCHW

    def _maps(
        self,
        x_BCHW: Tensor,
        angle_B: Tensor,
        scale_B: Tensor,
        shear_B: Tensor,
        down_B: Tensor,
        across_B: Tensor,
        side_B: Tensor,
    ) -> Tensor:
        """The affine maps [B, 2, 3] of draws from U(-1, 1), from places in the view to places in the image, both in [-1, 1]."""
        H, W = x_BCHW.shape[2:]
        angle_B, scale_B = math.radians(self.rotation) * angle_B, 1 + self.scale * scale_B
        cos_B, sin_B = scale_B * angle_B.cos(), scale_B * angle_B.sin()
        mirror_B = (
            torch.where(side_B < 0, -1.0, 1.0).to(cos_B) if self.flip else torch.ones_like(cos_B)
        )
        across = torch.stack(
            [mirror_B * cos_B, self.shear * shear_B - sin_B, 2 * self.shift / W * across_B], dim=1
        )
        down = torch.stack([mirror_B * sin_B, cos_B, 2 * self.shift / H * down_B], dim=1)
        return torch.stack([across, down], dim=1)
