"""Read picture files as RGB pixels: training images, test images and outliers alike.

The EXIF orientation is applied. Transparent pixels are composited on mid-grey, on which black and
white are both visible. Values of 16 bits are reduced to 8 bits. Grey, palette and CMYK pictures
become RGB. For an animation, only the first frame is read. A picture of more than `LARGEST` pixels
is refused before it is decoded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from netinv_lightning.errors import InputError, one_line
from netinv_lightning.runs.notices import notice

BACKGROUND = (128, 128, 128)
"""Colour under transparent pixels."""
GREY = ("1", "L", "LA", "La")
"""Pillow's modes of grey pictures."""
LARGEST = 100_000_000
"""Largest number of pixels of a picture."""
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif"}
)


def pictures_in(folder: Path, deep: bool = False) -> list[Path]:
    """Return the picture files of a folder, sorted; with `deep` also those of its subfolders."""
    files: Iterable[Path] = folder.rglob("*") if deep else folder.iterdir()
    return sorted(
        file
        for file in files
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def read_picture(path: Path, where: str, side: int | None = None) -> Image.Image:
    """Read a picture as 8-bit RGB.

    Args:
        path: The file.
        where: The key and its value, for the message.
        side: Required pixels per side; a large JPEG is decoded at a lower resolution that is
            sufficient.

    Raises:
        InputError: naming the file, if it is damaged or too large.
    """
    try:
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path) as image,
        ):
            if (pixels := image.width * image.height) > LARGEST:
                raise InputError(
                    f"{where}: {path} has {pixels} pixels, but at most {LARGEST} are allowed; "
                    "make it smaller"
                )
            if side is not None:
                image.draft(None, (side, side))
            if image.has_transparency_data:
                notice(f"{where}: transparent pixels are composited on mid-grey")
            return as_rgb(ImageOps.exif_transpose(image))
    except InputError:
        raise
    except Exception as error:  # damaged files raise many kinds of errors
        raise InputError(
            f"{where}: {path} cannot be read ({one_line(error)}); remove or replace it"
        ) from error


def as_rgb(image: Image.Image) -> Image.Image:
    """Return a picture of any mode as 8-bit RGB.

    Raises:
        ValueError: as `in_8_bits`.
    """
    return in_8_bits(image).convert("RGB")


def in_8_bits(image: Image.Image, background: tuple[int, int, int] = BACKGROUND) -> Image.Image:
    """Return a picture with 8 bits per channel: grey pictures stay grey, others are RGB.

    Args:
        image: The picture.
        background: Colour under transparent pixels.

    Raises:
        ValueError: if its pixels have no known range, such as floating-point ones.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError(f"its pixels are {values.dtype}; save it with 8 or 16 bits")
        scale = 257 if image.mode != "I" or values.max() > 255 else 1
        image = Image.fromarray((values / scale).round().astype(np.uint8))
    mode = "L" if image.mode in GREY else "RGB"
    if image.has_transparency_data:
        under = Image.new("RGBA", image.size, (*background, 255))
        image = Image.alpha_composite(under, image.convert("RGBA"))
    return image.convert(mode)
