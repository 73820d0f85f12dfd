"""Figures of runs as pictures of what they contain, since rendering takes half of a short run.

The tests of figures render them as users get them, and so do commands that import the libraries
themselves. Forked commands (`experiments/forked.py`) render no figures either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.forked import Command


@pytest.fixture(scope="module", autouse=True)
def figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Render no figures, except in files and folders of tests that are named after figures."""
    if "figure" in request.node.nodeid:
        yield
    else:
        with pytest.MonkeyPatch.context() as patch, not_rendered():
            patch.setattr(Command, "within", not_rendered)
            yield


@contextmanager
def not_rendered() -> Iterator[None]:
    """Context in which a figure is written as noise that depends on all that it contains."""
    from matplotlib.figure import Figure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", _write_noise)
        yield


def _write_noise(figure: Any, path: Path, format: str = "png", **options: Any) -> None:
    digest = _digest(figure)
    if format == "png":
        noise = np.random.default_rng(list(digest)).integers(0, 256, (80, 120), dtype=np.uint8)
        Image.fromarray(noise).convert("RGB").save(path, "png")
    else:
        path.write_bytes(b"%PDF-" + digest)


def _digest(figure: Any) -> bytes:
    """Return a hash of the images, texts, lines, points and areas of a figure."""
    from matplotlib.collections import Collection
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.text import Text

    found = hashlib.sha256()
    for artist in figure.findobj():
        match artist:
            case AxesImage():
                found.update(np.ma.getdata(artist.get_array()).tobytes())
            case Text():
                found.update(artist.get_text().encode())
            case Line2D():
                found.update(np.asarray(artist.get_xydata(), dtype=float).tobytes())
            case Collection():
                found.update(np.ma.getdata(artist.get_offsets()).tobytes())
            case Patch():
                found.update(artist.get_path().vertices.tobytes())
    return found.digest()
