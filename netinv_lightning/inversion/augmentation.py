"""Random views of generated images, which make adversarial noise less effective.

The classifier gets views instead of the generated images. A view is made by a small affine map and
bounded noise, as in DeepInversion and in feature visualisation. Each image gets its own view.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.training.distributed import Stream

SIDE_STEP = 32
"""Sides of resized views are multiples of this, so that maps of stride 32 have integer sides."""

UNKNOWN_VIEWS = {
    "signals": ("rotation", "shear", "resize"),
    "tables": ("shift", "rotation", "scale", "shear", "flip", "resize"),
}
"""Views of `augmentation` that do not exist for a modality. Signals are shifted, stretched and
mirrored along their length."""
VIEWS_OF = {
    **dict.fromkeys(("rotation", "shear", "resize"), "images"),
    **dict.fromkeys(("shift", "scale", "flip"), "images and signals"),
}


def fault_of_views(views: Mapping[str, Any], modality: str) -> str:
    """Return an error message if `augmentation` has views unfit for a modality; empty if not."""
    for key in UNKNOWN_VIEWS.get(modality, ()):
        if value := views[key]:
            return (
                f"augmentation.{key}={value}: is for {VIEWS_OF[key]}, but the classifier takes "
                f"{modality}. Leave it out"
            )
    return ""


class Augmentation:
    """Returns a random view of each image; differentiable.

    If all values are 0, images do not change.

    Each image is rotated, scaled, sheared and shifted by uniform draws, in one bilinear resampling
    that repeats the border. It is mirrored with probability 1/2. Uniform noise is added, whose
    bound is drawn from [0, `noise`].

    With `resize`, all views of a call are squares of one side, drawn uniformly from the multiples
    of `SIDE_STEP` in the range, or from the whole range if it contains fewer than two of them. An
    image then has to be recognised at every scale, not only at its own.

    Args:
        shift: Largest shift down and across, in pixels.
        rotation: Largest angle, in degrees.
        scale: Largest relative change of size, below 1.
        shear: Largest shear, as a share of the height.
        flip: Mirror half of the images.
        noise: Largest bound of the noise, in units of the pixel range.
        resize: Smallest and largest side of the views, in pixels; None for the size of the images.

    Raises:
        ValueError: if a value is out of range. The message starts with `<argument>=<value>:`.
    """

    def __init__(
        self,
        shift: float = 0.0,
        rotation: float = 0.0,
        scale: float = 0.0,
        shear: float = 0.0,
        flip: bool = False,
        noise: float = 0.0,
        resize: Sequence[int] | None = None,
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
        self.sides = () if resize is None else sides_between(resize)
        self.shift, self.rotation, self.scale, self.shear, self.flip, self.noise = (
            shift,
            rotation,
            scale,
            shear,
            flip,
            noise,
        )

    def without_noise(self) -> Augmentation:
        """Return the same views without noise, in the size of the images."""
        views = copy.copy(self)
        views.noise, views.sides = 0.0, ()
        return views

    @property
    def moves(self) -> bool:
        return bool(
            self.shift or self.rotation or self.scale or self.shear or self.flip or self.sides
        )

    def __call__(self, x_BCHW: Tensor, stream: Stream) -> Tensor:
        """Return views in [0, 1] of images in [0, 1], or of signals [B, C, L]."""
        B = len(x_BCHW)
        if x_BCHW.dim() == 3:  # a signal is an image of one row
            return self(x_BCHW[:, :, None], stream)[:, :, 0]
        if self.moves:
            draws = (2 * stream.uniform(B, 6) - 1).to(x_BCHW.dtype).unbind(dim=1)
            shape = [*x_BCHW.shape[:2], *self._sides_of_views(x_BCHW, stream)]
            grid_BHW2 = F.affine_grid(self._maps(x_BCHW, *draws), shape, align_corners=False)
            x_BCHW = F.grid_sample(x_BCHW, grid_BHW2, padding_mode="border", align_corners=False)
        if self.noise:
            bound_B111 = self.noise * stream.uniform(B, *[1] * (x_BCHW.dim() - 1))
            x_BCHW = (x_BCHW + bound_B111 * (2 * stream.uniform(*x_BCHW.shape) - 1)).clamp(0, 1)
        return x_BCHW

    def _sides_of_views(self, x_BCHW: Tensor, stream: Stream) -> Sequence[int]:
        """Return height and width of the views; a random side needs a synchronisation on a GPU."""
        if not self.sides:
            return x_BCHW.shape[2:]
        side = self.sides[int(stream.shared_uniform() * len(self.sides))]
        return side, side

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
        """Return affine maps [B, 2, 3] from draws of U(-1, 1).

        They map positions in the view to positions in the image, both in [-1, 1].
        """
        H, W = x_BCHW.shape[2:]
        angle_B, scale_B = math.radians(self.rotation) * angle_B, 1 + self.scale * scale_B
        cos_B, sin_B = scale_B * angle_B.cos(), scale_B * angle_B.sin()
        mirror_B = (
            torch.where(side_B < 0, -1.0, 1.0).to(cos_B) if self.flip else torch.ones_like(cos_B)
        )
        across = torch.stack(
            [
                mirror_B * cos_B,
                (self.shear * shear_B - sin_B) * (H / W),  # positions are in units of H / 2, W / 2
                2 * self.shift / W * across_B,
            ],
            dim=1,
        )
        down = torch.stack([mirror_B * sin_B * (W / H), cos_B, 2 * self.shift / H * down_B], dim=1)
        return torch.stack([across, down], dim=1)


def random_crops(x_BCHW: Tensor, least: float, stream: Stream | None) -> Tensor:
    """Return a random crop of each image or signal, resized to its size; half are mirrored.

    Args:
        x_BCHW: Images, or signals [B, C, L].
        least: Smallest area of a crop, as a share of the image; areas are uniform from there to 1.
        stream: Random numbers; None for torch's global random state.
    """
    if x_BCHW.dim() == 3:  # a signal is an image of one row
        return random_crops(x_BCHW[:, :, None], least, stream)[:, :, 0]
    B = len(x_BCHW)
    draws = torch.rand(B, 4, device=x_BCHW.device) if stream is None else stream.uniform(B, 4)
    area_B, down_B, across_B, side_B = draws.to(x_BCHW.dtype).unbind(dim=1)
    scale_B = (least + (1 - least) * area_B).sqrt()  # share of each side
    zero_B, room_B = torch.zeros_like(scale_B), 1 - scale_B  # positions are in [-1, 1]
    mirror_B = torch.where(side_B < 0.5, -scale_B, scale_B)
    across = torch.stack([mirror_B, zero_B, room_B * (2 * across_B - 1)], dim=1)
    down = torch.stack([zero_B, scale_B, room_B * (2 * down_B - 1)], dim=1)
    maps_B23 = torch.stack([across, down], dim=1)
    grid_BHW2 = F.affine_grid(maps_B23, list(x_BCHW.shape), align_corners=False)
    return F.grid_sample(x_BCHW, grid_BHW2, padding_mode="border", align_corners=False)


def sides_between(resize: Sequence[int]) -> Sequence[int]:
    """Return the sides that views in the range `resize` may have.

    Raises:
        ValueError: if it is not a smallest and a largest side, in pixels.
    """
    if len(resize) != 2 or not 1 <= resize[0] <= resize[1]:
        raise ValueError(
            f"resize={list(resize)}: must be the smallest and the largest side of the "
            "views, in pixels, such as [96,256]"
        )
    least, most = resize
    multiples = range(-(-least // SIDE_STEP) * SIDE_STEP, most + 1, SIDE_STEP)
    return multiples if len(multiples) > 1 else range(least, most + 1)
