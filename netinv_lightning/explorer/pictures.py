"""A user's picture, brought to the classifier's shape by the rule of data/outliers.py.

Shape suffixes: C channels, H height, W width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from netinv_lightning.data.outliers import in_shape_of
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.runs.outside_files import open_file

RULE = (
    "Gray becomes RGB by three equal channels, RGB becomes gray by its luminance (BT.601); the square in the middle stays; "
    "another size is resampled bilinearly with antialiasing. Transparent pixels count as black. "
    "A picture that has the classifier's shape is left as it is."
)
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MOST_PIXELS = 2**25
GRAY = ("1", "L", "LA", "La")
"""Pillow's modes of gray pictures."""


def read_picture(path: Path, spec: DataSpec) -> Tensor:
    """Reads a picture, turned as its camera says, in the shape of `spec`, by `RULE`.

    Returns:
        [C, H, W] in [0, 1].

    Raises:
        InputError: if it is no picture.
    """
    try:
        with open_file(path) as file, Image.open(file, formats=FORMATS) as opened:
            if opened.width * opened.height > MOST_PIXELS:  # known before it is decoded
                raise InputError(
                    f"{path.name}: has {opened.width} x {opened.height} pixels, more than {MOST_PIXELS:,}; make it smaller"
                )
            picture = ImageOps.exif_transpose(opened)
            gray = picture.mode in GRAY
            if picture.has_transparency_data:
                picture = Image.alpha_composite(
                    Image.new("RGBA", picture.size, "black"), picture.convert("RGBA")
                )
            if picture.mode.startswith("I;16"):  # of which Pillow would cut off all above 255
                x_CHW = torch.from_numpy(np.asarray(picture, dtype=np.float32))[None] / 65535
            else:
                x_CHW = to_unit_range(pil_to_tensor(picture.convert("L" if gray else "RGB")))
    except InputError:
        raise
    except Exception as error:  # Pillow answers damaged bytes with whatever it trips over
        raise InputError(
            f"{path.name}: is no picture that can be read ({one_line(error)}); drop a PNG or JPEG file"
        ) from error
    return in_shape_of(spec, x_CHW[None])[0]
