"""Charts of numbers, and figures of the units of a sparse autoencoder.

Shape suffixes: M methods, N classes, G groups, U units, K images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from netinv_lightning.interpretability.anomaly import Separation
from netinv_lightning.interpretability.figures.charts import (
    draw_agreement,
    draw_cluster_counts,
    draw_roc_curves,
    draw_rule_fidelity,
)
from netinv_lightning.interpretability.figures.units import (
    draw_unit_frequencies,
    draw_unit_images,
    draw_unit_overlap,
)
from tests.interpretability.figures.drawings import HUNDRED, PETS, legend, ticks


def test_agreement_has_a_logarithmic_axis_of_components(
    drawn: list[Figure], tmp_path: Path
) -> None:
    curves = {
        "all samples": {128: 1.0, 1: 0.2, 2: 0.4, 100: 0.9},
        "lowest tenth of margins": {1: 0.1, 2: 0.3},
    }
    draw_agreement(curves, tmp_path / "agreement", chance=0.1)
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


def test_cluster_counts_are_a_table(drawn: list[Figure], tmp_path: Path) -> None:
    count_MN = torch.tensor([[1.0, 2.0], [12.0, float("nan")]])
    draw_cluster_counts(count_MN, ["features", "t-SNE, perplexity 30"], PETS, tmp_path / "clusters")
    axes = drawn[0].axes[0]
    assert {text.get_position(): text.get_text() for text in axes.texts} == {
        (0, 0): "1",
        (0, 1): "2",
        (1, 0): "12",
        (1, 1): "n/a",
    }
    assert [text.get_text() for text in axes.get_yticklabels()] == PETS
    assert axes.get_xlabel() == "number of clusters (n/a: too few samples)"
    draw_cluster_counts(torch.ones(1, 100), ["features"], HUNDRED, tmp_path / "clusters", "run")
    assert drawn[1].get_suptitle() == "run (first 40 of 100 classes)"
    assert len(drawn[1].axes[0].texts) == 40


def test_units_are_sorted_and_dead_units_left_out(drawn: list[Figure], tmp_path: Path) -> None:
    frequency_GM = torch.tensor([[0.1, 0.0, 0.9, 0.5], [0.2, 0.0, 0.3, 0.4], [0.6, 0.0, 0.1, 0.5]])
    draw_unit_frequencies(frequency_GM, ["training", "test", "inverted"], tmp_path / "units")
    axes, bar = drawn[0].axes
    assert np.asarray(axes.images[0].get_array()) == pytest.approx(
        frequency_GM[:, [2, 3, 0]].numpy()
    )
    assert axes.get_xlabel() == "3 of 4 units are active;\nsorted by training minus inverted"
    assert bar.get_ylabel() == "activation\nfrequency"
    draw_unit_frequencies(
        frequency_GM,
        ["training", "test", "inverted"],
        tmp_path / "units",
        order=("inverted", "test"),
    )
    assert np.asarray(drawn[1].axes[0].images[0].get_array()) == pytest.approx(
        frequency_GM[:, [0, 3, 2]].numpy()
    )


def test_overlap_is_drawn_with_its_control(drawn: list[Figure], tmp_path: Path) -> None:
    overlap_GN = torch.tensor([[0.5, 0.25], [0.125, float("nan")]])
    draw_unit_overlap(
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


def test_real_images_of_a_unit_are_left_of_inverted_ones(
    drawn: list[Figure], tmp_path: Path
) -> None:
    real, inverted = torch.full((22, 2, 1, 4, 4), 0.25), torch.full((22, 3, 1, 4, 4), 0.75)
    of_units = (list(range(17, 39)), [0.93] * 22, ["Ankle boot"] * 22)
    draw_unit_images(inverted, *of_units, tmp_path / "units", "run", real)
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
    draw_unit_images(inverted, *of_units, tmp_path / "units")
    assert [axes.get_title() for axes in drawn[1].axes] == ["inverted images"]


def test_roc_legend_has_areas_and_controls_are_dashed(drawn: list[Figure], tmp_path: Path) -> None:
    rates = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 1.0])
    perfect = Separation(1.0, 0.99, 1.0, *rates)
    draw_roc_curves({"pattern": perfect, "test": perfect}, tmp_path / "roc", controls=["test"])
    chance, pattern, control = drawn[0].axes[0].lines
    assert np.asarray(chance.get_xydata()).tolist() == [[0, 0], [1, 1]]
    assert np.asarray(pattern.get_xydata()).tolist() == [[0, 0], [0, 1], [1, 1]]
    assert (pattern.get_linestyle(), control.get_linestyle()) == ("-", "--")
    assert legend(drawn[0]) == ["pattern: 1.000 [0.990, 1.000]", "test: 1.000 [0.990, 1.000]"]


def test_fidelity_is_drawn_with_its_numbers(drawn: list[Figure], tmp_path: Path) -> None:
    names, sizes = ["rules", "majority class"], ["24 rules, length 3.1", ""]
    draw_rule_fidelity(names, [0.95, 0.1], [0.9, None], sizes, tmp_path / "rules")
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
    draw_rule_fidelity(names, [0.95, 0.1], [None, None], sizes, tmp_path / "rules")
    assert [text.get_text() for text in drawn[1].axes[0].child_axes[0].get_yticklabels()] == [
        "0.950",
        "0.100",
    ]
    assert legend(drawn[1]) == ["inverted"]
