"""What the figures of a classifier's inside tell: every number, name and mark; readable, nothing outside, nothing overlapping.

Shape suffixes: n samples, N classes, Y rows and X columns of a mesh.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from torch import Tensor

from netinv_lightning.figures import scores, style
from netinv_lightning.figures.style import OTHERS_COLOUR, PALETTE, SMALL_POINTS, paper_style
from netinv_lightning.interpretability import figures
from netinv_lightning.interpretability import plane_figures as planes
from netinv_lightning.interpretability import unit_figures as units

PETS = ["cat", "dog"]
CLOTHES = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]
TWENTY = [f"kind {label}" for label in range(19)] + ["a name that goes on and on for ever"]
HUNDRED = [f"superclass {label}" for label in range(100)]
TITLE = "an experiment with a rather long name: fashion_invert, seed 3, penultimate layer"


def drawings(class_names: list[str], stem: Path, n: int = 400) -> dict[str, Callable[[], Path]]:
    """Every figure, of made-up numbers, by name."""
    N, source = len(class_names), torch.Generator().manual_seed(len(class_names))
    centre_N2 = 6 * torch.randn(N, 2, generator=source)
    label_n = torch.randint(N, (n,), generator=source)
    z_n2 = centre_N2[label_n] + torch.randn(n, 2, generator=source)
    real_z_n2 = centre_N2[label_n] + torch.randn(n, 2, generator=source)
    x_X, y_Y = torch.linspace(-12, 12, 60), torch.linspace(-15, 15, 50)
    mesh_YX2 = torch.stack(torch.meshgrid(y_Y, x_X, indexing="ij")[::-1], dim=-1)
    confidence_YX, class_YX = (
        (-(torch.cdist(mesh_YX2, centre_N2[None]) ** 2) / 4).softmax(dim=2).max(dim=2)
    )
    variance_K = torch.arange(64.0, 0, -1) ** 2 / (torch.arange(64.0, 0, -1) ** 2).sum()
    e_SPn2 = torch.stack([z_n2, z_n2.flip(1), -z_n2, 2 * z_n2]).view(2, 2, n, 2)
    counts_MN = torch.randint(1, 5, (4, N), generator=source).float()
    curve = {k: 1 - 1 / k for k in (1, 2, 3, 5, 10, 20, 50, 128)}
    roc = (torch.linspace(0, 1, 50), torch.linspace(0, 1, 50).sqrt(), 0.667, 0.65, 0.68)
    methods = ["features", "HDBSCAN", "t-SNE, perplexity 5", "t-SNE, perplexity 30"]
    groups = ["training", "test", "inverted", "generator 0", "generator 1"]
    images = torch.rand(3, 4, 1, 8, 8, generator=source)
    of_units = ([7, 311, 42], [0.5, 1.0, 0.25], [class_names[-1]] * 3)
    dots = (
        ["rules in features", "decision tree", "majority class"],
        [0.97, 0.9, 0.1],
        [0.96, 0.8, None],
    )
    return {
        "pca": lambda: figures.pca_scatter(
            z_n2, label_n, variance_K, class_names, stem, TITLE, real_z_n2, label_n
        ),
        "regions": lambda: figures.decision_regions(
            class_YX,
            confidence_YX,
            x_X,
            y_Y,
            z_n2,
            label_n,
            class_names,
            stem,
            TITLE,
            variance_K,
            0.5,
            real_z_n2,
            label_n,
        ),
        "tsne": lambda: figures.tsne_panels(
            e_SPn2,
            label_n,
            [5, 30],
            [0, 1],
            [0.5, 0.6],
            [0.9, 0.95],
            0.0123,
            class_names,
            stem,
            TITLE,
        ),
        "five perplexities": lambda: figures.tsne_panels(
            e_SPn2.view(1, 4, n, 2)[:, [0, 1, 2, 3, 0]],
            label_n,
            [2, 5, 30, 50, 100],
            [0],
            [0.5] * 5,
            [0.9] * 5,
            0.0123,
            class_names,
            stem,
            TITLE,
            [0.5] * 5,
        ),
        "agreement": lambda: figures.agreement_curve(
            {"all samples": curve, "lowest tenth of margins": curve}, stem, TITLE, 0.1
        ),
        "clusters": lambda: figures.cluster_counts(counts_MN, methods, class_names, stem, TITLE),
        "two ways": lambda: figures.cluster_counts(
            counts_MN[:2], methods[1:3], class_names, stem, TITLE
        ),
        "roc": lambda: figures.separation_curves(
            {"score": roc, "control: test against training": roc}, stem, TITLE, ["control"]
        ),
        "rules": lambda: figures.rule_fidelity(
            *dots, ["24 rules, length 3.1", "24 leaves, depth 5", ""], stem, TITLE
        ),
        "units": lambda: figures.unit_activations(
            torch.rand(5, 64, generator=source), groups, stem, TITLE
        ),
        "overlap": lambda: figures.class_overlap(
            counts_MN / 5, groups[1:], torch.full((N,), 0.9), class_names, stem, TITLE
        ),
        "images": lambda: figures.unit_images(images, *of_units, stem, TITLE, images),
        "inverted images": lambda: figures.unit_images(images, *of_units, stem, TITLE),
    }


NAMES = list(drawings(PETS, Path()))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn, as they would be written, but no files."""
    kept: list[Figure] = []

    def keep(figure: Figure, path: Path) -> Path:
        figure.draw_without_rendering()
        kept.append(figure)
        return path

    for module in (planes, scores, units):
        monkeypatch.setattr(module, "save", keep)
    return kept


def ticks(axis: Axis) -> list[Text]:
    low, high = sorted(axis.get_view_interval())
    slack = 1e-6 * (high - low)
    pairs = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
    return [label for place, label in pairs if low - slack <= place <= high + slack]


def texts(figure: Figure) -> Iterator[Text]:
    """All that is written in a figure."""
    found = list(figure.texts)
    for legend in figure.legends:
        found += legend.get_texts()
    for axes in [*figure.axes, *(child for parent in figure.axes for child in parent.child_axes)]:
        found += [
            axes.title,
            axes.xaxis.label,
            axes.yaxis.label,
            *axes.texts,
            *ticks(axes.xaxis),
            *ticks(axes.yaxis),
        ]
    return (text for text in found if text.get_text().strip() and text.get_visible())


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def samples(axes: Axes) -> list[PathCollection]:
    return [artist for artist in axes.collections if isinstance(artist, PathCollection)]


@pytest.mark.parametrize(
    ("name", "class_names"),
    [(name, PETS) for name in NAMES]
    + [(name, CLOTHES) for name in ("pca", "regions", "clusters")]
    + [(name, TWENTY) for name in ("pca", "regions", "clusters", "overlap", "inverted images")]
    + [(name, HUNDRED) for name in ("pca", "regions")],
    ids=lambda value: len(value) if isinstance(value, list) else value,
)
def test_all_that_is_written_is_readable(
    name: str, class_names: list[str], drawn: list[Figure], tmp_path: Path
) -> None:
    """At least 7 points high, within the canvas, and no two texts on each other."""
    with paper_style():
        drawings(class_names, tmp_path / "figure")[name]()
        (figure,) = drawn
        written = [(text, text.get_window_extent()) for text in texts(figure)]
    assert figure.get_suptitle().split()[: len(TITLE.split())] == TITLE.split()
    for text, box in written:
        assert text.get_fontsize() >= SMALL_POINTS, text
        assert figure.bbox.x0 - 1 <= box.x0, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert figure.bbox.y0 - 1 <= box.y0, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    for (one, box), (other, other_box) in itertools.combinations(written, 2):
        assert not box.padded(-1).overlaps(other_box.padded(-1)), (one, other)
    assert figure.get_size_inches()[0] in (style.ONE_COLUMN, style.TWO_COLUMNS)


@pytest.mark.parametrize("name", NAMES)
def test_drawing_leaves_the_callers_settings_and_random_numbers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (planes, scores, units):
        monkeypatch.setattr(module, "save", lambda figure, path: path.with_suffix(".png"))
    settings, chance = dict(matplotlib.rcParams), torch.get_rng_state()
    assert drawings(PETS, tmp_path / "figure")[name]() == tmp_path / "figure.png"
    assert dict(matplotlib.rcParams) == settings
    assert torch.equal(torch.get_rng_state(), chance)


@pytest.mark.parametrize(("name", "width"), [("pca", 1050), ("images", 2148)])
def test_both_files_are_written_and_many_marks_make_no_large_pdf(
    name: str, width: int, tmp_path: Path
) -> None:
    """`save` is the same for all; see test_figures.py for its files."""
    png = drawings(CLOTHES, tmp_path / "new" / "figure", n=5000)[name]()
    assert png == tmp_path / "new" / "figure.png"
    assert {path.name for path in png.parent.iterdir()} == {"figure.png", "figure.pdf"}
    with Image.open(png) as image:
        assert image.size[0] == width
    pdf = png.with_suffix(".pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert len(pdf) < 1_000_000


def two_blobs(n: int) -> tuple[Tensor, Tensor]:
    """Cats at the left, dogs at the right."""
    label_n = torch.arange(n) % 2
    return torch.stack([20 * label_n - 10.0, torch.zeros(n)], dim=1) + torch.rand(n, 2), label_n


def test_pca_tells_variance_and_how_many_samples_are_drawn(
    drawn: list[Figure], tmp_path: Path
) -> None:
    z_n2, label_n = two_blobs(1200)
    real_z_n2, real_label_n = two_blobs(30)
    variance_K = torch.tensor([0.55, 0.3, 0.1, 0.03, 0.02])
    for _ in range(2):
        figures.pca_scatter(
            z_n2, label_n, variance_K, PETS, tmp_path / "pca", "", real_z_n2, real_label_n
        )
    plane, curve = drawn[0].axes
    assert (plane.get_xlabel(), plane.get_ylabel()) == ("PC 1 (55.0 %)", "PC 2 (30.0 %)")
    assert [text.get_text() for text in curve.texts] == ["90 % at 3 of 5 components"]
    assert np.asarray(curve.lines[0].get_ydata()) == pytest.approx([55, 85, 95, 98, 100])
    assert legend(drawn[0]) == [*PETS, "inverted (1000 of 1200)", "real (30)"]
    real, inverted = samples(plane)
    assert len(np.unique(inverted.get_offsets(), axis=0)) == 1000
    assert np.array_equal(
        inverted.get_offsets(), samples(drawn[1].axes[0])[1].get_offsets()
    )  # the same every time
    assert len(real.get_offsets()) == 30
    assert len(real.get_facecolor()) == 0  # hollow
    dogs = np.asarray(inverted.get_offsets())[:, 0] > 0
    for place, face, form in zip(dogs, inverted.get_facecolor(), inverted.get_paths(), strict=True):
        assert to_hex(face).upper() == PALETTE[int(place)]
        assert (len(form.vertices) == 5) == place  # squares, not circles
    assert all(collection.get_rasterized() for collection in (real, inverted))


def test_too_few_components_are_told(drawn: list[Figure], tmp_path: Path) -> None:
    z_n2, label_n = two_blobs(10)
    figures.pca_scatter(z_n2, label_n, torch.tensor([0.5, 0.3]), PETS, tmp_path / "pca")
    assert drawn[0].axes[1].texts[0].get_text() == "2 components stay below 90 %"


def test_others_lie_below_the_ten_largest_classes(drawn: list[Figure], tmp_path: Path) -> None:
    drawings(HUNDRED, tmp_path / "pca")["pca"]()
    inverted = samples(drawn[0].axes[0])[1]
    grey = np.array([to_hex(face).upper() == OTHERS_COLOUR for face in inverted.get_facecolor()])
    assert 0 < grey.sum() < len(grey)
    assert grey[: grey.sum()].all()  # drawn first


def test_decision_regions_have_colour_confidence_boundary_and_name(
    drawn: list[Figure], tmp_path: Path
) -> None:
    x_X, y_Y = torch.linspace(-10, 10, 81), torch.linspace(-8, 8, 61)
    class_YX = (x_X > 3).long().expand(61, 81)
    confidence_YX = torch.where(x_X > 3, 1.0, 0.5).expand(61, 81)
    z_n2, label_n = two_blobs(40)
    figures.decision_regions(
        class_YX,
        confidence_YX,
        x_X,
        y_Y,
        z_n2,
        label_n,
        PETS,
        tmp_path / "regions",
        "run",
        torch.tensor([0.5, 0.25]),
        0.442,
    )
    axes = drawn[0].axes[0]
    assert (
        drawn[0].get_suptitle()
        == "run\nplane and classifier agree on 44.2 % of the inverted samples"
    )
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("PC 1 (50.0 %)", "PC 2 (25.0 %)")
    assert legend(drawn[0]) == [*PETS, "inverted (40)", "confidence 0.5", "confidence 1"]
    colours_YX3 = np.asarray(axes.images[0].get_array())
    cat, dog = (np.array(to_rgb(colour)) for colour in PALETTE[:2])
    assert colours_YX3[0, 0] == pytest.approx(1 - 0.15 * (1 - cat), abs=1e-6)  # chance
    assert colours_YX3[-1, -1] == pytest.approx(1 - 0.6 * (1 - dog), abs=1e-6)  # certain
    assert axes.images[0].get_extent() == pytest.approx([-10.125, 10.125, -8 - 8 / 60, 8 + 8 / 60])
    lines = [
        path.vertices
        for artist in axes.collections
        if artist not in samples(axes)
        for path in artist.get_paths()
    ]
    assert len(lines) == 2  # once for each class
    assert np.concatenate(lines)[:, 0] == pytest.approx(
        3.125, abs=0.01
    )  # half-way between the mesh points 3 and 3.25
    places = {text.get_text(): text.get_position()[0] for text in axes.texts}
    assert places.keys() == set(PETS)
    assert places["cat"] < 13.125 / 20.25 < places["dog"]  # as shares of the width


def test_names_that_find_no_room_are_left_out(drawn: list[Figure], tmp_path: Path) -> None:
    x_X, y_Y = torch.linspace(0, 1, 100), torch.linspace(0, 1, 100)
    class_YX = (x_X > 0.97).long().expand(100, 100)
    z_n2, label_n = torch.rand(4, 2), torch.tensor([0, 0, 1, 1])
    figures.decision_regions(
        class_YX, torch.ones(100, 100), x_X, y_Y, z_n2, label_n, PETS, tmp_path / "regions"
    )
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["cat"]
    assert legend(drawn[0])[:2] == PETS


def test_agreement_is_drawn_over_a_logarithmic_number_of_components(
    drawn: list[Figure], tmp_path: Path
) -> None:
    curves = {
        "all samples": {128: 1.0, 1: 0.2, 2: 0.4, 100: 0.9},
        "lowest tenth of margins": {1: 0.1, 2: 0.3},
    }
    figures.agreement_curve(curves, tmp_path / "agreement", chance=0.1)
    axes = drawn[0].axes[0]
    assert axes.get_xscale() == "log"
    assert [np.asarray(line.get_xydata()).tolist() for line in axes.lines[:2]] == [
        [[1, 0.2], [2, 0.4], [100, 0.9], [128, 1]],
        [[1, 0.1], [2, 0.3]],
    ]
    assert [text.get_text() for text in ticks(axes.xaxis)] == ["128", "2", "1"] or {
        t.get_text() for t in ticks(axes.xaxis)
    } == {
        "1",
        "2",
        "128",
    }
    assert legend(drawn[0]) == [*curves, "control (0.10)"]
    assert axes.lines[2].get_linestyle() == "--"
    assert list(axes.lines[2].get_ydata()) == [0.1, 0.1]


def test_tsne_has_a_panel_for_each_perplexity_and_seed(drawn: list[Figure], tmp_path: Path) -> None:
    z_n2, label_n = two_blobs(600)
    e_SPn2 = torch.stack([z_n2 * (1 + panel) for panel in range(8)]).view(4, 2, 600, 2)
    figures.tsne_panels(
        e_SPn2,
        label_n,
        [5, 30],
        [7, 8, 9, 10],
        [0.71, 0.8],
        [0.994, 0.9],
        0.0167,
        PETS,
        tmp_path / "t",
        "run",
        [0.48, 0.5],
    )
    figure = drawn[0]
    panels = np.array(figure.axes).reshape(3, 2)
    assert figure.get_suptitle() == "run (first 3 of 4 seeds)"
    assert [axes.get_title() for axes in panels[0]] == ["perplexity 5", "perplexity 30"]
    assert [axes.get_ylabel() for axes in panels[:, 0]] == ["seed 7", "seed 8", "seed 9"]
    assert (
        panels[2, 0].get_xlabel()
        == "same neighbours 0.71 (chance 0.017)\ntrustworthiness 0.994 (chance 0.48)"
    )
    assert legend(figure) == [*PETS, "inverted (500 of 600)"]
    first, last = (
        np.asarray(samples(panels[place])[0].get_offsets()) for place in ((0, 0), (2, 1))
    )
    assert last == pytest.approx(6 * first, rel=1e-5)  # the sixth panel, the same samples


def test_one_seed_has_no_overlap_to_tell(drawn: list[Figure], tmp_path: Path) -> None:
    z_n2, label_n = two_blobs(20)
    figures.tsne_panels(
        z_n2[None, None], label_n, [5], [0], [float("nan")], [0.9], 0.5, PETS, tmp_path / "t"
    )
    assert drawn[0].axes[0].get_xlabel() == "trustworthiness 0.900"


def test_cluster_counts_are_told_in_a_table(drawn: list[Figure], tmp_path: Path) -> None:
    count_MN = torch.tensor([[1.0, 2.0], [12.0, float("nan")]])
    figures.cluster_counts(
        count_MN, ["features", "t-SNE, perplexity 30"], PETS, tmp_path / "clusters"
    )
    axes = drawn[0].axes[0]
    assert {text.get_position(): text.get_text() for text in axes.texts} == {
        (0, 0): "1",
        (0, 1): "2",
        (1, 0): "12",
        (1, 1): "n/a",
    }
    assert [text.get_text() for text in axes.get_yticklabels()] == PETS
    assert axes.get_xlabel() == "number of clusters (n/a: too few samples)"
    figures.cluster_counts(torch.ones(1, 100), ["features"], HUNDRED, tmp_path / "clusters", "run")
    assert drawn[1].get_suptitle() == "run (first 40 of 100 classes)"
    assert len(drawn[1].axes[0].texts) == 40


def test_units_are_sorted_by_the_difference_and_dead_ones_left_out(
    drawn: list[Figure], tmp_path: Path
) -> None:
    frequency_GM = torch.tensor([[0.1, 0.0, 0.9, 0.5], [0.2, 0.0, 0.3, 0.4], [0.6, 0.0, 0.1, 0.5]])
    figures.unit_activations(frequency_GM, ["training", "test", "inverted"], tmp_path / "units")
    axes, bar = drawn[0].axes
    assert np.asarray(axes.images[0].get_array()) == pytest.approx(
        frequency_GM[:, [2, 3, 0]].numpy()
    )
    assert axes.get_xlabel() == "3 of 4 units fire;\nsorted by training minus inverted"
    assert bar.get_ylabel() == "firing\nfrequency"
    figures.unit_activations(
        frequency_GM,
        ["training", "test", "inverted"],
        tmp_path / "units",
        order=("inverted", "test"),
    )
    assert np.asarray(drawn[1].axes[0].images[0].get_array()) == pytest.approx(
        frequency_GM[:, [0, 3, 2]].numpy()
    )


def test_overlap_lies_beside_its_control(drawn: list[Figure], tmp_path: Path) -> None:
    overlap_GN = torch.tensor([[0.5, 0.25], [0.125, float("nan")]])
    figures.class_overlap(
        overlap_GN,
        ["inverted", "generator 0"],
        torch.tensor([0.75, 1.0]),
        PETS,
        tmp_path / "overlap",
    )
    control, inverted, generator = drawn[0].axes[0].lines
    assert list(control.get_xdata()) == [0.75, 1.0]
    assert list(inverted.get_xdata()) == [0.5, 0.25]
    assert list(generator.get_xdata()) == pytest.approx([0.125, float("nan")], nan_ok=True)
    assert legend(drawn[0]) == ["inverted", "generator 0", "control: two halves"]


def test_a_units_real_images_are_at_the_left_of_inverted_ones(
    drawn: list[Figure], tmp_path: Path
) -> None:
    real, inverted = torch.full((22, 2, 1, 4, 4), 0.25), torch.full((22, 3, 1, 4, 4), 0.75)
    of_units = (list(range(17, 39)), [0.93] * 22, ["Ankle boot"] * 22)
    figures.unit_images(inverted, *of_units, tmp_path / "units", "run", real)
    left, right = drawn[0].axes
    assert (left.get_title(), right.get_title()) == ("real images", "inverted images")
    assert [np.asarray(axes.images[0].get_array()).shape for axes in (left, right)] == [
        (118, 10, 3),
        (118, 16, 3),
    ]
    assert [float(np.asarray(axes.images[0].get_array())[0, 0, 0]) for axes in (left, right)] == [
        0.25,
        0.75,
    ]
    assert left.get_position().x1 < right.get_position().x0
    assert left.get_yticklabels()[0].get_text() == "17: Ankle boot (0.93)"
    assert drawn[0].get_suptitle() == "run (first 20 of 22 units)"
    figures.unit_images(inverted, *of_units, tmp_path / "units")
    assert [axes.get_title() for axes in drawn[1].axes] == ["inverted images"]


def test_separation_tells_areas_and_dashes_controls(drawn: list[Figure], tmp_path: Path) -> None:
    perfect = (torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 1.0]), 1.0, 0.99, 1.0)
    figures.separation_curves(
        {"pattern": perfect, "test": perfect}, tmp_path / "roc", controls=["test"]
    )
    chance, pattern, control = drawn[0].axes[0].lines
    assert np.asarray(chance.get_xydata()).tolist() == [[0, 0], [1, 1]]
    assert np.asarray(pattern.get_xydata()).tolist() == [[0, 0], [0, 1], [1, 1]]
    assert (pattern.get_linestyle(), control.get_linestyle()) == ("-", "--")
    assert legend(drawn[0]) == ["pattern: 1.000 [0.990, 1.000]", "test: 1.000 [0.990, 1.000]"]


def test_fidelity_is_drawn_and_told_in_numbers(drawn: list[Figure], tmp_path: Path) -> None:
    names, sizes = ["rules", "majority class"], ["24 rules, length 3.1", ""]
    figures.rule_fidelity(names, [0.95, 0.1], [0.9, None], sizes, tmp_path / "rules")
    axes = drawn[0].axes[0]
    inverted, real = axes.lines
    assert list(inverted.get_xdata()) == [0.95, 0.1]
    assert list(real.get_xdata()) == [0.9]
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "rules\n24 rules, length 3.1",
        "majority class",
    ]
    (numbers,) = axes.child_axes
    assert [text.get_text() for text in numbers.get_yticklabels()] == [
        "0.950 / 0.900",
        "0.100 / n/a",
    ]
    assert numbers.get_ylabel() == "inverted / real"
    assert legend(drawn[0]) == ["inverted", "real"]
    figures.rule_fidelity(names, [0.95, 0.1], [None, None], sizes, tmp_path / "rules")
    assert [text.get_text() for text in drawn[1].axes[0].child_axes[0].get_yticklabels()] == [
        "0.950",
        "0.100",
    ]
    assert legend(drawn[1]) == ["inverted"]
