"""Figures of a plane: principal components, decision regions, t-SNE.

Shape suffixes: n samples, H rows and W columns of a mesh, S seeds.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from netinv_lightning.figures.style import OTHERS_COLOUR, PALETTE
from netinv_lightning.interpretability.embedding import EmbeddingStability
from netinv_lightning.interpretability.figures.pca import draw_pca
from netinv_lightning.interpretability.figures.regions import draw_regions
from netinv_lightning.interpretability.figures.tsne import draw_tsne
from netinv_lightning.interpretability.regions import Regions
from tests.interpretability.figures.drawings import (
    HUNDRED,
    PETS,
    drawings,
    legend,
    samples,
    two_blobs,
)


def test_pca_states_variance_and_number_of_drawn_samples(
    drawn: list[Figure], tmp_path: Path
) -> None:
    z_n2, label_n = two_blobs(1200)
    variance_K = torch.tensor([0.55, 0.3, 0.1, 0.03, 0.02])
    for _ in range(2):
        draw_pca(z_n2, label_n, variance_K, PETS, tmp_path / "pca", "", two_blobs(30))
    plane, curve = drawn[0].axes
    assert (plane.get_xlabel(), plane.get_ylabel()) == ("PC 1 (55.0 %)", "PC 2 (30.0 %)")
    assert [text.get_text() for text in curve.texts] == ["90 % at 3 of 5 components"]
    assert np.asarray(curve.lines[0].get_ydata()) == pytest.approx([55, 85, 95, 98, 100])
    assert legend(drawn[0]) == [*PETS, "inverted (1000 of 1200)", "real (30)"]
    real, inverted = samples(plane)
    assert len(np.unique(inverted.get_offsets(), axis=0)) == 1000
    # The same samples each time
    assert np.array_equal(inverted.get_offsets(), samples(drawn[1].axes[0])[1].get_offsets())
    assert len(real.get_offsets()) == 30
    assert len(real.get_facecolor()) == 0  # hollow markers
    dogs = np.asarray(inverted.get_offsets())[:, 0] > 0
    for place, face, form in zip(dogs, inverted.get_facecolor(), inverted.get_paths(), strict=True):
        assert to_hex(face).upper() == PALETTE[int(place)]
        assert (len(form.vertices) == 5) == place  # squares instead of circles for dogs
    assert all(collection.get_rasterized() for collection in (real, inverted))


def test_pca_states_that_components_explain_too_little(drawn: list[Figure], tmp_path: Path) -> None:
    z_n2, label_n = two_blobs(10)
    draw_pca(z_n2, label_n, torch.tensor([0.5, 0.3]), PETS, tmp_path / "pca")
    assert drawn[0].axes[1].texts[0].get_text() == "2 components: less than 90 %"


def test_regions_show_class_confidence_boundary_and_name(
    drawn: list[Figure], tmp_path: Path
) -> None:
    x_W, y_H = torch.linspace(-10, 10, 81), torch.linspace(-8, 8, 61)
    class_HW = (x_W > 3).long().expand(61, 81)
    confidence_HW = torch.where(x_W > 3, 1.0, 0.5).expand(61, 81)
    z_n2, label_n = two_blobs(40)
    draw_regions(
        Regions(x_W, y_H, class_HW, confidence_HW, classes_present=1.0),
        z_n2=z_n2,
        label_n=label_n,
        class_names=PETS,
        variance_K=torch.tensor([0.5, 0.25]),
        agreement=0.442,
        path=tmp_path / "regions",
        title="run",
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
    # confidence at chance level
    assert colours_YX3[0, 0] == pytest.approx(1 - 0.15 * (1 - cat), abs=1e-6)
    assert colours_YX3[-1, -1] == pytest.approx(1 - 0.6 * (1 - dog), abs=1e-6)  # confidence 1
    assert axes.images[0].get_extent() == pytest.approx([-10.125, 10.125, -8 - 8 / 60, 8 + 8 / 60])
    lines = [
        path.vertices
        for artist in axes.collections
        if artist not in samples(axes)
        for path in artist.get_paths()
    ]
    assert len(lines) == 2  # one line per class
    # Half-way between the mesh points 3 and 3.25
    assert np.concatenate(lines)[:, 0] == pytest.approx(3.125, abs=0.01)
    places = {text.get_text(): text.get_position()[0] for text in axes.texts}
    assert places.keys() == set(PETS)
    assert places["cat"] < 13.125 / 20.25 < places["dog"]  # fractions of the width


def test_a_region_without_space_has_no_name(drawn: list[Figure], tmp_path: Path) -> None:
    x_W, y_H = torch.linspace(0, 1, 100), torch.linspace(0, 1, 100)
    class_HW = (x_W > 0.97).long().expand(100, 100)
    draw_regions(
        Regions(x_W, y_H, class_HW, torch.ones(100, 100), classes_present=1.0),
        z_n2=torch.rand(4, 2),
        label_n=torch.tensor([0, 0, 1, 1]),
        class_names=PETS,
        variance_K=torch.tensor([0.5, 0.25]),
        agreement=1.0,
        path=tmp_path / "regions",
    )
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["cat"]
    assert legend(drawn[0])[:2] == PETS


def test_small_classes_are_grey_and_below_the_others(drawn: list[Figure], tmp_path: Path) -> None:
    drawings(HUNDRED, tmp_path / "pca")["pca"]()
    inverted = samples(drawn[0].axes[0])[1]
    grey = np.array([to_hex(face).upper() == OTHERS_COLOUR for face in inverted.get_facecolor()])
    assert 0 < grey.sum() < len(grey)
    assert grey[: grey.sum()].all()  # grey samples are drawn first


def test_tsne_has_one_panel_per_perplexity_and_seed(drawn: list[Figure], tmp_path: Path) -> None:
    z_n2, label_n = two_blobs(600)
    factor_S = torch.arange(1.0, 5)
    runs = [
        EmbeddingStability(
            perplexity=perplexity,
            embeddings_Sn2=factor * factor_S[:, None, None] * z_n2,
            overlap=0.71,
            overlap_by_chance=0.0167,
            trustworthiness=0.994,
            trustworthiness_by_chance=0.48,
        )
        for perplexity, factor in ((5, 1), (30, 2))
    ]
    draw_tsne(runs, label_n, [7, 8, 9, 10], PETS, tmp_path / "t", "run")
    figure = drawn[0]
    panels = np.array(figure.axes).reshape(3, 2)
    assert figure.get_suptitle() == "run (first 3 of 4 seeds)"
    assert [axes.get_title() for axes in panels[0]] == ["perplexity 5", "perplexity 30"]
    assert [axes.get_ylabel() for axes in panels[:, 0]] == ["seed 7", "seed 8", "seed 9"]
    assert (
        panels[2, 0].get_xlabel()
        == "shared neighbours 0.71 (chance 0.017)\ntrustworthiness 0.994 (chance 0.48)"
    )
    assert legend(figure) == [*PETS, "inverted (500 of 600)"]
    first, last = (
        np.asarray(samples(panels[place])[0].get_offsets()) for place in ((0, 0), (2, 1))
    )
    assert last == pytest.approx(6 * first, rel=1e-5)  # the same samples


def test_tsne_with_one_seed_has_no_overlap(drawn: list[Figure], tmp_path: Path) -> None:
    z_n2, label_n = two_blobs(20)
    run = EmbeddingStability(5, z_n2[None], math.nan, 0.5, 0.9, 0.48)
    draw_tsne([run], label_n, [0], PETS, tmp_path / "t")
    assert drawn[0].axes[0].get_xlabel() == "trustworthiness 0.900 (chance 0.48)"
