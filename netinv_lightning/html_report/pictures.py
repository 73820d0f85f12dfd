"""Pictures in a page: a PNG is scaled down, put on white and encoded as a WebP data URI."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from netinv_lightning.html_report.files import Folder
from netinv_lightning.runs.outside_files import open_file

FULL = 1600
"""Longer edge of a figure in pixels; labels are readable when it is enlarged."""
FRAME = 800
"""Longer edge of a grid drawn during training."""
THUMBNAIL = 560
"""Longer edge of a run's grid in the report of a sweep."""
THUMBNAIL_BYTES = 40_000
FIGURES_BYTES, FRAMES_BYTES = 600_000, 200_000
"""Largest size of all figures of a run and of all grids drawn during training, before their
encoding as text, which adds a third. With them, the page of a run has at most 1.5 MB."""
MOST_PIXELS = 2**26
"""Largest number of pixels of a figure that is read."""


@dataclass(frozen=True)
class Picture:
    """A figure in a page.

    Attributes:
        file: The PNG.
        title: Title and alternative text.
        uri: The picture as a data URI; empty if the file is damaged.
        width, height: Size in pixels.
    """

    file: Path
    title: str
    uri: str = ""
    width: int = 0
    height: int = 0


def read_pictures(
    folder: Folder, titles: Mapping[Path, str], edge: int, most_bytes: int
) -> dict[Path, Picture]:
    """Read several figures; what the smaller ones do not need is left to the larger ones.

    Args:
        folder: The run.
        titles: Title of each PNG.
        edge: Largest length of the longer edge of each, in pixels.
        most_bytes: Largest size of all encoded pictures.
    """
    pictures: dict[Path, Picture] = {}
    for file in sorted(titles, key=lambda file: file.lstat().st_size):
        share = most_bytes // (len(titles) - len(pictures))
        pictures[file] = read_picture(folder, file, titles[file], edge, share)
        most_bytes -= len(pictures[file].uri) * 3 // 4
    return pictures


def read_picture(folder: Folder, file: Path, title: str, edge: int, most_bytes: int) -> Picture:
    """Read a figure. If it is damaged, note it in `folder` and return it without a picture.

    Args:
        folder: The run.
        file: The PNG.
        title: Title of the figure.
        edge: Largest length of the longer edge, in pixels.
        most_bytes: Largest size of the encoded picture.
    """
    try:
        with (
            open_file(file, folder.path) as content,
            Image.open(content, formats=["PNG"]) as opened,
        ):
            if opened.width * opened.height > MOST_PIXELS:
                raise ValueError(
                    f"it has {opened.width} x {opened.height} pixels, more than {MOST_PIXELS:,}"
                )
            loaded = opened.convert("RGBA")
    except (
        OSError,
        ValueError,
        SyntaxError,
        UnidentifiedImageError,
        Image.DecompressionBombError,
    ) as error:
        folder.failed(file.relative_to(folder.path), "is damaged", error)
        return Picture(file, title)
    picture = Image.new("RGB", loaded.size, "white")
    picture.paste(loaded, mask=loaded.getchannel("A"))
    picture.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    encoded = _encode(picture, lossless=True)  # lossy encoding would smooth noise away
    for quality in (82, 60):
        if len(encoded) > most_bytes:
            encoded = _encode(picture, quality=quality)
    while len(encoded) > most_bytes:
        # The number of bytes grows at most as fast as the area.
        smaller = int(max(picture.size) * min(0.9, math.sqrt(most_bytes / len(encoded))))
        picture.thumbnail((smaller, smaller), Image.Resampling.LANCZOS)
        encoded = _encode(picture, quality=60)
    uri = f"data:image/webp;base64,{base64.b64encode(encoded).decode()}"
    return Picture(file, title, uri, *picture.size)


def _encode(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", method=1, **options)
    return buffer.getvalue()
