"""Style and files of figures; image grids and confusion matrices.

Shape suffixes: c colours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from netinv_lightning.explorer.markup import image
from netinv_lightning.figures import confusion_matrix, image_grid, images
from netinv_lightning.figures.images import draw_images
from netinv_lightning.figures.legends import legend_below, mark
from netinv_lightning.figures.style import DPI, ONE_COLUMN, TWO_COLUMNS, paper_style, save
from netinv_lightning.figures.titles import title_above


def labelled_figure(width: float = ONE_COLUMN) -> Figure:
    with paper_style():
        figure = Figure(figsize=(width, 1.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1])
        axes.set(xlabel="costs $5 or $6", ylabel="y")
    return figure


@pytest.mark.parametrize("width", [ONE_COLUMN, TWO_COLUMNS])
def test_png_and_pdf_have_the_printed_size_and_fonts(tmp_path: Path, width: float) -> None:
    png = save(labelled_figure(width), tmp_path / "deep" / "layer0.5")
    assert {path.name for path in png.parent.iterdir()} == {"layer0.5.png", "layer0.5.pdf"}
    with Image.open(png) as image:
        assert image.size == (round(width * DPI), round(1.2 * DPI))
        assert image.info["dpi"] == pytest.approx((DPI, DPI), abs=0.1)
    pdf = png.with_suffix(".pdf").read_bytes()
    assert b"/FontFile2" in pdf  # a TrueType font
    assert b"/Type3" not in pdf
    assert b"/MediaBox [ 0 0 %d" % int(width * 72) in pdf
    assert b"CreationDate" not in pdf  # without a date, equal figures give equal files


def test_a_failed_write_keeps_the_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {f"plot{ending}": f"old {ending}".encode() for ending in (".png", ".pdf")}
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)

    def half(self: Figure, path: Path, **options: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match="no space left"):
        save(labelled_figure(), tmp_path / "plot")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old


def test_settings_of_the_caller_are_ignored_and_restored() -> None:
    with matplotlib.rc_context({"font.size": 31.0, "text.usetex": False, "axes.facecolor": "pink"}):
        before = dict(matplotlib.rcParams)
        with paper_style():
            assert matplotlib.rcParams["font.size"] == 8
            assert matplotlib.rcParams["axes.facecolor"] == "white"
        assert dict(matplotlib.rcParams) == before
        with pytest.raises(KeyError), paper_style():
            raise KeyError
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    "title", ["short", "a title of many words " * 6, "W" * 80, "two\nlines of " + "text " * 20]
)
def test_titles_are_wrapped_to_fit(title: str) -> None:
    figure = labelled_figure()
    with paper_style():
        title_above(figure, title)
        figure.draw_without_rendering()
        box = figure.texts[0].get_window_extent()
    assert figure.texts[0].get_text().split() == title.split() or title.startswith("W")
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1
    assert float(figure.axes[0].bbox.y1) <= box.y0


def test_the_legend_fits_below_the_axes() -> None:
    figure = labelled_figure()
    with paper_style():
        legend_below(figure, [mark(f"class {i}") for i in range(10)], [mark("a second group")])
        figure.draw_without_rendering()
        first, second = (legend.get_window_extent() for legend in figure.legends)
        axes = figure.axes[0].get_tightbbox()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        f"class {i}" for i in range(10)
    ]
    assert axes is not None
    assert second.y0 >= -1
    assert second.y1 <= first.y0 + 1  # one below the other
    assert first.y1 <= axes.y0 + 1  # and below the axes
    assert first.x0 >= 0
    assert first.x1 <= figure.bbox.x1
    assert figure.get_size_inches()[1] == pytest.approx(1.2 + (first.height + second.height) / DPI)


def test_images_lie_in_rows_with_white_gaps() -> None:
    x_RKCHW = (
        torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 7.0]).reshape(2, 3, 1, 1, 1).expand(2, 3, 1, 2, 1)
    )
    axes = Figure().subplots()
    draw_images(axes, x_RKCHW, ["one", "two"], ["a", "b", "c"])
    canvas = np.asarray(axes.images[0].get_array())
    assert canvas.shape == (2 * 2 + 2, 3 * 1 + 2 * 2, 3)
    expected = np.ones((6, 7))
    expected[0:2, [0, 3, 6]] = [0.1, 0.2, 0.3]
    expected[4:6, [0, 3, 6]] = [0.4, 0.5, 1.0]  # clamped
    assert canvas == pytest.approx(np.repeat(expected[..., None], 3, axis=2))
    assert [text.get_text() for text in axes.get_yticklabels()] == ["one", "two"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "b", "c"]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collect the figures that the module `images` writes."""
    figures: list[Figure] = []
    write = images.write_whole

    def keep(figure: Figure, path: Path, **options: Any) -> Path:
        figures.append(figure)
        return write(figure, path, **options)

    monkeypatch.setattr(images, "write_whole", keep)
    return figures


def test_a_tall_grid_shows_its_first_twenty_rows(tmp_path: Path, written: list[Figure]) -> None:
    path = image_grid(
        torch.rand(25, 3, 3, 8, 8),
        [f"class {row}" for row in range(25)],
        tmp_path / "new" / "grid.png",
        "run",
    )
    axes = written[0].axes[0]
    assert axes.get_title() == "run (first 20 of 25 rows)"
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        f"class {row}" for row in range(20)
    ]
    with Image.open(path) as image:
        assert image.size == (round((3 * 0.42 + 1.14) * 150), round((20 * 0.42 + 0.4) * 150))
    assert [file.name for file in path.parent.iterdir()] == ["grid.png"]


@pytest.mark.parametrize("columns", ["8", "automobile"])
def test_long_names_are_not_cut_off(tmp_path: Path, columns: str) -> None:
    rows = [*["lucid"] * 7, "naturalinversion"]
    path = image_grid(torch.ones(8, 10, 1, 28, 28), rows, tmp_path / "g.png", "", [columns] * 10)
    with Image.open(path) as picture:
        grey_HW = np.asarray(picture.convert("L"))
    assert grey_HW.min() < 100  # the names are drawn
    assert grey_HW[:, 0].min() == grey_HW[-1].min() == 255  # and end before the border


def test_a_confusion_matrix_shows_shares_per_row(tmp_path: Path, written: list[Figure]) -> None:
    path = confusion_matrix(
        torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]]), ["a", "b", "c"], tmp_path / "confusion.png"
    )
    axes = written[0].axes[0]
    assert axes.get_title() == "inversion accuracy 0.8750"
    assert {text.get_position(): text.get_text() for text in axes.texts} == {
        (0, 0): "0.75",
        (1, 0): "0.25",
        (1, 1): "1.00",
    }
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "conditioned on")
    with Image.open(path) as image:
        assert image.size == (round(3.2 * 120), round(3.2 * 120))


def test_a_confusion_matrix_of_some_classes_has_a_column_of_others(
    tmp_path: Path, written: list[Figure]
) -> None:
    counts_NN = torch.tensor([[1, 3, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]])
    confusion_matrix(counts_NN, ["a", "b", "c", "d"], tmp_path / "confusion.png", chosen=[3, 0])
    axes = written[0].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["d", "a", "other"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["d", "a"]
    assert {text.get_position(): text.get_text() for text in axes.texts} == {
        (0, 0): "0.50",
        (2, 0): "0.50",
        (1, 1): "0.25",
        (2, 1): "0.75",
    }


@pytest.mark.parametrize(
    "draw",
    [
        lambda names, path: image_grid(torch.rand(2, 2, 1, 4, 4), names, path, "a $^ title", names),
        lambda names, path: confusion_matrix(torch.eye(2), names, path),
    ],
)
def test_dollar_signs_in_class_names_are_literal(
    draw: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(
        "matplotlib.mathtext.MathTextParser.parse", lambda self, s, *args: drawn.append(s)
    )
    assert draw(["$a^$b", "$\\wrong{$"], tmp_path / "figure.png").is_file()
    assert drawn == []


@pytest.mark.parametrize("shape", [(3, 16, 32), (5, 16, 16), (2, 40), (13,), (3, 128, 128)])
def test_grid_and_explorer_show_every_shape(shape: tuple[int, ...], tmp_path: Path) -> None:
    x_RK = torch.rand(2, 3, *shape)
    path = image_grid(x_RK, ["a", "b"], tmp_path / "grid.png", "title")
    with Image.open(path) as picture:
        assert min(picture.size) > 50
    assert 'src="data:image/png;base64,' in image(x_RK[0, 0], "a", "drawn")
