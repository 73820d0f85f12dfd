"""Read a user's picture in the shape of the classifier's input.

Shape suffixes: C channels, H height, W width.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from netinv_lightning.data.outliers import in_shape_of
from netinv_lightning.data.pictures import in_8_bits
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.runs.outside_files import open_file

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MOST_PIXELS = 2**25
BLACK = (0, 0, 0)


def takes_pictures(spec: DataSpec) -> bool:
    """Whether a picture can be converted to an input of `spec`: an image, grey or in colours."""
    return spec.modality == "images" and spec.channels in (1, 3)


def conversion_rule(spec: DataSpec) -> str:
    """Describe how a picture is converted to the shape of `spec`."""
    colours = (
        "Colour pictures are converted to luminance (BT.601)."
        if spec.channels == 1
        else "Grey pictures are repeated in three channels."
    )
    return (
        f"The picture is converted to {' x '.join(map(str, spec.shape))}. "
        f"{colours} It is cropped at the centre to this aspect ratio and resized bilinearly with "
        "antialiasing. "
        "Transparent pixels become black. A picture of the right shape is not changed."
    )


def read_picture(path: Path, spec: DataSpec) -> Tensor:
    """Read a picture in the shape of `spec`, rotated according to its EXIF data.

    Returns:
        [C, H, W] in [0, 1].

    Raises:
        InputError: if the file is not a picture, or has too many pixels.
    """
    try:
        with open_file(path) as file, Image.open(file, formats=FORMATS) as opened:
            if opened.width * opened.height > MOST_PIXELS:  # known before it is decoded
                raise InputError(
                    f"{path.name}: has {opened.width} x {opened.height} pixels, "
                    f"more than {MOST_PIXELS:,}. Use a smaller picture"
                )
            picture = in_8_bits(ImageOps.exif_transpose(opened), background=BLACK)
            x_CHW = to_unit_range(pil_to_tensor(picture))
    except InputError:
        raise
    except Exception as error:  # Pillow raises many types of errors for damaged files
        raise InputError(
            f"{path.name}: is not a readable picture ({one_line(error)}). Use a PNG or JPEG file"
        ) from error
    return in_shape_of(spec, x_CHW[None])[0]
