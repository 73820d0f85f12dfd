"""Activity of sparse units, against hand-worked numbers, closed forms and planted differences.

Shape suffixes: n samples, m other samples, D features, M units, N classes, G groups, A atoms.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from netinv_lightning.interpretability.activations import (
    Group,
    firing,
    overlap,
    reconstruction,
    reconstruction_by_pca,
    selectivity,
    top_activating,
    unit_activations,
)
from netinv_lightning.interpretability.autoencoders import ConvSparse, KSparse


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Reconstruction


def signs() -> KSparse:
    """Autoencoder that encodes vectors of two entries exactly, with units for +x, -x, +y and -y."""
    model = KSparse(2, 4, 2, seed=0)
    with torch.no_grad():
        for weights in (model.encoder, model.decoder):
            weights.copy_(torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]]))
    return model


def test_a_perfect_code_explains_all_variance() -> None:
    f_nD = torch.tensor([[1.0, 2], [3, -1], [2, 0], [5, 1]])
    measured = reconstruction(signs(), f_nD, f_nD)
    assert measured.unexplained == pytest.approx(0, abs=1e-12)
    assert measured.active == pytest.approx(7 / 4)
    assert measured.dead == pytest.approx(1 / 4)  # no x is negative


def test_unexplained_by_hand() -> None:
    """One active unit keeps the larger entry of (3, 1) and (-1, 2).

    The squared error is 1 + 1. The variance around the mean (1, 1.5) is 4 + 0.25 + 4 + 0.25.
    """
    model = signs()
    model.active = 1
    held_nD = torch.tensor([[3.0, 1], [-1, 2]])
    measured = reconstruction(model, torch.tensor([[0.0, 0], [2, 0], [0, 1]]), held_nD)
    assert measured.unexplained == pytest.approx(2 / 8.5)
    assert (measured.active, measured.dead) == (1, 0.5)


def test_components_of_data_on_a_plane() -> None:
    plane_nD = torch.randn(60, 2, generator=source(0)) @ torch.randn(2, 7, generator=source(1)) + 4
    torch.testing.assert_close(
        reconstruction_by_pca(plane_nD[:40], plane_nD[40:], 2), plane_nD[40:], rtol=1e-4, atol=1e-4
    )
    line_nD = reconstruction_by_pca(plane_nD, plane_nD, 1)
    centred_nD = plane_nD - plane_nD.mean(dim=0)
    values = torch.linalg.svdvals(centred_nD)
    assert (line_nD - plane_nD).square().sum() == pytest.approx(float(values[1] ** 2), rel=1e-3)


def test_batches_equal_the_whole_set() -> None:
    model, x_nChw = ConvSparse(2, 3, seed=0), torch.randn(1203, 2, 3, 3, generator=source(0))
    with torch.no_grad():
        expected_nM = model.encode(x_nChw).amax(dim=(2, 3))
    torch.testing.assert_close(unit_activations(model, x_nChw), expected_nM)


# Selectivity


def test_selectivity_by_hand() -> None:
    """Units: class 1 only; all classes equally; means 3, 1, 1; never active; means 2, 0, 4."""
    class_n = torch.tensor([0, 0, 1, 2, 2, 2])
    activations_nM = torch.tensor(
        [
            [0, 5, 3, 0, 4],
            [0, 5, 3, 0, 0],
            [2, 5, 1, 0, 0],
            [0, 5, 3, 0, 4],
            [0, 5, 0, 0, 4],
            [0, 5, 0, 0, 4.0],
        ]
    )
    measured = selectivity(activations_nM, class_n, 3, seed=0)
    assert measured.preferred_M.tolist()[0] == 1
    assert measured.preferred_M.tolist()[2:] == [0, -1, 2]
    assert measured.mean_NM[:, 2].tolist() == [3, 1, 1]
    index_M = measured.selectivity_M.tolist()
    assert index_M[:3] == pytest.approx([1, 0, 0.5])
    assert math.isnan(index_M[3])
    assert index_M[4] == pytest.approx((4 - 1) / (4 + 1))


def test_absent_classes_are_ignored() -> None:
    activations_nM, class_n = torch.tensor([[3.0], [1.0]]), torch.tensor([4, 2])
    measured = selectivity(activations_nM, class_n, 6, seed=0)
    assert (measured.preferred_M.item(), measured.selectivity_M.item()) == (4, 0.5)
    assert selectivity(activations_nM, torch.tensor([4, 4]), 6, seed=0).selectivity_M.isnan().all()


def test_a_unit_active_once_is_selective_by_chance() -> None:
    activations_nM = torch.zeros(100, 2)
    activations_nM[7, 0] = 1
    activations_nM[:50, 1] = 1
    measured = selectivity(activations_nM, torch.arange(100) // 50, 2, seed=0)
    assert measured.selectivity_M.tolist() == [1, 1]
    assert measured.shuffled_M[0] == 1
    assert measured.shuffled_M[1] < 0.5


def test_class_independent_units_exceed_chance_at_the_level() -> None:
    activations_nM = torch.rand(300, 1000, generator=source(0)).relu()
    measured = selectivity(activations_nM, torch.randint(4, (300,), generator=source(1)), 4, seed=2)
    assert (measured.selectivity_M > measured.shuffled_M).float().mean() == pytest.approx(
        0.05, abs=0.025
    )


# Firing and overlap


def test_firing_by_hand() -> None:
    groups = {
        "training": torch.tensor([[1.0, 0, 2], [0, 0, 3]]),
        "generator 0": torch.tensor([[0, 0.1, 2], [1, 0, 0], [1, 0, 0], [1, 0, 0]]),
    }
    measured = firing(groups)
    assert measured.names == ("training", "generator 0")
    assert measured.frequency_GM.tolist() == [[0.5, 0, 1], [0.75, 0.25, 0.25]]
    assert measured.samples_G.tolist() == [2, 4]


def group(units: list[int], n: int = 40, classes: int = 1) -> Group:
    """Return samples for which exactly these of 6 units are active."""
    activations_nM = torch.zeros(n, 6)
    activations_nM[:, units] = 2
    return Group(activations_nM, torch.arange(n) % classes)


def test_overlap_of_known_sets() -> None:
    measured = overlap({"a": group([0, 1, 2]), "b": group([1, 2, 3]), "c": group([4])}, 1, seed=0)
    assert measured.jaccard_NGG[0].tolist() == [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]]
    assert torch.equal(measured.mean_GG, measured.jaccard_NGG[0])


def test_sets_have_half_the_size_of_the_smallest_group() -> None:
    measured = overlap(
        {
            "a": group([0], 300, classes=2),
            "b": group([0], 50, classes=2),
            "c": group([0], 30, classes=2),
        },
        3,
        seed=0,
    )
    # The 15 samples of c are too few, and do not reduce the size of the other sets.
    assert measured.samples_N.tolist() == [
        12,
        12,
        0,
    ]
    assert measured.jaccard_NGG[:2, :2, :2].eq(1).all()
    assert measured.jaccard_NGG[:, 2].isnan().all()
    assert measured.jaccard_NGG[2].isnan().all()
    assert measured.mean_GG[0].tolist()[:2] == [1, 1]


def test_a_unit_is_in_the_set_at_the_minimum_frequency() -> None:
    rare, never = group([0, 1]), group([0])
    rare.activations_nM[:, 1] = (
        torch.arange(40) < 20
    ).float()  # active for about half of the samples of a half
    assert overlap({"a": rare, "b": never}, 1, seed=0, frequency=0.1).jaccard_NGG[0, 0, 1] == 0.5
    assert overlap({"a": rare, "b": never}, 1, seed=0, frequency=1.0).jaccard_NGG[0, 0, 1] == 1


def bernoulli(frequency_M: Tensor, n: int, seed: int) -> Group:
    return Group(
        (torch.rand(n, len(frequency_M), generator=source(seed)) < frequency_M).float(),
        torch.zeros(n, dtype=torch.long),
    )


def test_equal_origins_overlap_like_the_control() -> None:
    """Many units are near the threshold, so the control is well below 1.

    The sizes of the groups have no effect.
    """
    frequency_M = torch.rand(400, generator=source(0)) * 0.25
    other_M = frequency_M[torch.randperm(400, generator=source(1))]
    groups = {
        "a": bernoulli(frequency_M, 1000, 2),
        "b": bernoulli(frequency_M, 200, 3),
        "other": bernoulli(other_M, 300, 4),
    }
    measured = overlap(groups, 1, seed=5).jaccard_NGG[0]
    assert 0.5 < measured[0, 0] < 0.9
    assert measured[0, 1] == pytest.approx(float(measured.diagonal()[:2].mean()), abs=0.04)
    assert measured[0, 2] < measured[0, 0] - 0.15
    assert torch.equal(measured, measured.T)
    assert torch.equal(measured, overlap(groups, 1, seed=5).jaccard_NGG[0])


def test_top_activating_by_hand() -> None:
    activations_nM = torch.tensor([[0, 3.0, 0], [2, 3, 0], [5, 1, 0], [0, 4, 0]])
    assert top_activating(activations_nM, torch.tensor([1, 0, 2]), 3).tolist() == [
        [3, 0, 1],
        [2, 1, -1],
        [-1, -1, -1],
    ]
    assert top_activating(activations_nM, torch.tensor([1]), 6).tolist() == [[3, 0, 1, 2, -1, -1]]
