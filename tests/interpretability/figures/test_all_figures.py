"""Properties of every figure of the study: legible texts, files and no side effects."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from netinv_lightning.figures import style
from netinv_lightning.figures.style import SMALL_POINTS, paper_style
from tests.interpretability.figures.drawings import (
    CLOTHES,
    HUNDRED,
    PETS,
    TITLE,
    TWENTY,
    drawings,
    texts,
)

NAMES = list(drawings(PETS, Path()))


@pytest.mark.parametrize(
    ("name", "class_names"),
    [(name, PETS) for name in NAMES]
    + [(name, CLOTHES) for name in ("pca", "regions", "clusters")]
    + [(name, TWENTY) for name in ("pca", "regions", "clusters", "overlap", "inverted images")]
    + [(name, HUNDRED) for name in ("pca", "regions")],
    ids=lambda value: len(value) if isinstance(value, list) else value,
)
def test_texts_are_readable(
    name: str, class_names: list[str], drawn: list[Figure], tmp_path: Path
) -> None:
    """All texts are at least 7 points high, inside the canvas, and do not overlap."""
    with paper_style():
        drawings(class_names, tmp_path / "figure")[name]()
        (figure,) = drawn
        found = [(text, text.get_window_extent()) for text in texts(figure)]
    assert figure.get_suptitle().split()[: len(TITLE.split())] == TITLE.split()
    for text, box in found:
        assert text.get_fontsize() >= SMALL_POINTS, text
        assert figure.bbox.x0 - 1 <= box.x0, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert figure.bbox.y0 - 1 <= box.y0, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    for (one, box), (other, other_box) in itertools.combinations(found, 2):
        assert not box.padded(-1).overlaps(other_box.padded(-1)), (one, other)
    assert figure.get_size_inches()[0] in (style.ONE_COLUMN, style.TWO_COLUMNS)


@pytest.mark.parametrize("name", NAMES)
def test_drawing_changes_no_settings_or_random_state(
    name: str, drawn: list[Figure], tmp_path: Path
) -> None:
    settings, chance = dict(matplotlib.rcParams), torch.get_rng_state()
    assert drawings(PETS, tmp_path / "figure")[name]() == tmp_path / "figure.png"
    assert dict(matplotlib.rcParams) == settings
    assert torch.equal(torch.get_rng_state(), chance)


@pytest.mark.parametrize(("name", "width"), [("pca", 1050), ("images", 2148)])
def test_both_files_are_written_and_the_pdf_is_small(name: str, width: int, tmp_path: Path) -> None:
    png = drawings(CLOTHES, tmp_path / "new" / "figure", n=5000)[name]()
    assert png == tmp_path / "new" / "figure.png"
    assert {path.name for path in png.parent.iterdir()} == {"figure.png", "figure.pdf"}
    with Image.open(png) as image:
        assert image.size[0] == width
    pdf = png.with_suffix(".pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert len(pdf) < 1_000_000
