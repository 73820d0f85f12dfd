"""A PNG as a picture inside a page: made smaller, on white, as WebP in a data URI."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from netinv_lightning.html_report.files import Folder
from netinv_lightning.runs.outside_files import open_file

FULL = 1600  # pixels of the longer edge of a figure: its labels can be read when it is enlarged
FRAME = 800  # of a grid that was drawn while training
THUMBNAIL = 560  # of a run's grid in the page of a sweep
THUMBNAIL_BYTES = 40_000
MOST_PIXELS = 2**26  # of a figure that is shown
LOSSLESS_BYTES = 500_000  # up to which a picture is kept as it is


@dataclass(frozen=True)
class Picture:
    """What a page shows of a figure.

    Attributes:
        file: The PNG.
        title: In words; its alternative text too.
        uri: The picture itself, as a data URI; empty where the file is damaged.
        width, height: In pixels.
    """

    file: Path
    title: str
    uri: str = ""
    width: int = 0
    height: int = 0


def read_picture(
    folder: Folder, file: Path, title: str, edge: int, most_bytes: float = math.inf
) -> Picture:
    """Reads a figure; one that is damaged is noted in `folder` and comes without a picture.

    Args:
        folder: The run.
        file: The PNG.
        title: In words.
        edge: Pixels that its longer edge has at most.
        most_bytes: Size of the picture at most, if it is to have one.
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
    if most_bytes == math.inf:
        encoded = _encode(
            picture, lossless=True
        )  # what inversion makes is often noise, which a lossy picture smooths away
        if len(encoded) > LOSSLESS_BYTES:
            encoded = _encode(picture, quality=82)
    else:
        while (
            len(encoded := _encode(picture, quality=60)) > most_bytes
        ):  # bytes go with the area, or a little slower
            smaller = int(max(picture.size) * min(0.9, math.sqrt(most_bytes / len(encoded))))
            picture.thumbnail((smaller, smaller), Image.Resampling.LANCZOS)
    uri = f"data:image/webp;base64,{base64.b64encode(encoded).decode()}"
    return Picture(file, title, uri, *picture.size)


def _encode(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", method=1, **options)
    return buffer.getvalue()
