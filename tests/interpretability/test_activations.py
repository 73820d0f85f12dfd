"""What sparse units do, and who can be told apart by it: hand-worked numbers, closed forms, planted differences, equal origins.

Shape suffixes: n samples, m other samples, D features, M units, N classes, G groups, A planted atoms.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
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
from netinv_lightning.interpretability.anomaly import (
    CONTROLS,
    DetectorResult,
    Samples,
    detect,
    separation,
)
from netinv_lightning.interpretability.autoencoders import ConvSparse, KSparse, train_autoencoder


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Reconstruction


def signs() -> KSparse:
    """Exact on vectors of two entries: units for +x, -x, +y, -y."""
    model = KSparse(2, 4, 2, seed=0)
    with torch.no_grad():
        for weights in (model.encoder, model.decoder):
            weights.copy_(torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]]))
    return model


def test_a_perfect_code_leaves_nothing_unexplained() -> None:
    f_nD = torch.tensor([[1.0, 2], [3, -1], [2, 0], [5, 1]])
    measured = reconstruction(signs(), f_nD, f_nD)
    assert measured.unexplained == pytest.approx(0, abs=1e-12)
    assert measured.active == pytest.approx(7 / 4)
    assert measured.dead == pytest.approx(1 / 4)  # no x is negative


def test_unexplained_by_hand() -> None:
    """One active unit keeps the larger entry: of (3, 1), (-1, 2), mean (1, 1.5), 1 + 1 is lost of 4 + .25 + 4 + .25."""
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


def test_parts_of_a_set_are_put_together() -> None:
    model, x_nChw = ConvSparse(2, 3, seed=0), torch.randn(1203, 2, 3, 3, generator=source(0))
    with torch.no_grad():
        expected_nM = model.encode(x_nChw).amax(dim=(2, 3))
    torch.testing.assert_close(unit_activations(model, x_nChw), expected_nM)


# Selectivity


def test_selectivity_by_hand() -> None:
    """Units: class 1 only; all alike; means 3, 1, 1; never active; means 2, 0, 4."""
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


def test_absent_classes_do_not_count() -> None:
    activations_nM, class_n = torch.tensor([[3.0], [1.0]]), torch.tensor([4, 2])
    measured = selectivity(activations_nM, class_n, 6, seed=0)
    assert (measured.preferred_M.item(), measured.selectivity_M.item()) == (4, 0.5)
    assert selectivity(activations_nM, torch.tensor([4, 4]), 6, seed=0).selectivity_M.isnan().all()


def test_a_unit_that_fires_once_is_not_more_selective_than_chance() -> None:
    activations_nM = torch.zeros(100, 2)
    activations_nM[7, 0] = 1
    activations_nM[:50, 1] = 1
    measured = selectivity(activations_nM, torch.arange(100) // 50, 2, seed=0)
    assert measured.selectivity_M.tolist() == [1, 1]
    assert measured.shuffled_M[0] == 1
    assert measured.shuffled_M[1] < 0.5


def test_units_that_ignore_the_class_exceed_chance_as_often_as_the_test_says() -> None:
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
    """Samples for each of which exactly these of 6 units fire."""
    activations_nM = torch.zeros(n, 6)
    activations_nM[:, units] = 2
    return Group(activations_nM, torch.arange(n) % classes)


def test_overlap_of_known_sets() -> None:
    measured = overlap({"a": group([0, 1, 2]), "b": group([1, 2, 3]), "c": group([4])}, 1, seed=0)
    assert measured.jaccard_NGG[0].tolist() == [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]]
    assert torch.equal(measured.mean_GG, measured.jaccard_NGG[0])


def test_sets_are_as_large_as_half_the_smallest_group() -> None:
    measured = overlap(
        {
            "a": group([0], 300, classes=2),
            "b": group([0], 50, classes=2),
            "c": group([0], 30, classes=2),
        },
        3,
        seed=0,
    )
    assert measured.samples_N.tolist() == [
        12,
        12,
        0,
    ]  # 15 of c are too few and do not make the others' sets small
    assert measured.jaccard_NGG[:2, :2, :2].eq(1).all()
    assert measured.jaccard_NGG[:, 2].isnan().all()
    assert measured.jaccard_NGG[2].isnan().all()
    assert measured.mean_GG[0].tolist()[:2] == [1, 1]


def test_a_unit_is_in_the_set_from_the_stated_frequency_on() -> None:
    rare, never = group([0, 1]), group([0])
    rare.activations_nM[:, 1] = (
        torch.arange(40) < 20
    ).float()  # a half fires it for 0.5 of its samples, more or less
    assert overlap({"a": rare, "b": never}, 1, seed=0, frequency=0.1).jaccard_NGG[0, 0, 1] == 0.5
    assert overlap({"a": rare, "b": never}, 1, seed=0, frequency=1.0).jaccard_NGG[0, 0, 1] == 1


def bernoulli(frequency_M: Tensor, n: int, seed: int) -> Group:
    return Group(
        (torch.rand(n, len(frequency_M), generator=source(seed)) < frequency_M).float(),
        torch.zeros(n, dtype=torch.long),
    )


def test_equal_origins_overlap_as_much_as_the_control() -> None:
    """Many units are near the threshold, so that the control is well below 1; groups of other sizes make no difference."""
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


# Separation


def test_auc_by_hand() -> None:
    measured = separation(torch.tensor([3.0, 1]), torch.tensor([2.0, 0]), seed=0)
    assert measured.auc == 0.75
    assert (
        separation(torch.tensor([1.0, 1]), torch.tensor([1.0, 0]), seed=0).auc == 0.75
    )  # ties count half
    assert (measured.false_positive_R[0], measured.true_positive_R[0]) == (0, 0)
    assert (measured.false_positive_R[-1], measured.true_positive_R[-1]) == (1, 1)
    assert torch.trapezoid(measured.true_positive_R, measured.false_positive_R) == pytest.approx(
        0.75
    )


def test_scores_that_do_not_overlap() -> None:
    measured = separation(torch.arange(10.0) + 20, torch.arange(10.0), seed=0)
    assert (measured.auc, measured.low, measured.high) == (1, 1, 1)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_auc_of_shifted_normal_scores(shift: float) -> None:
    """Closed form: Phi(shift / sqrt 2)."""
    measured = separation(
        torch.randn(800, generator=source(0)) + shift, torch.randn(600, generator=source(1)), seed=2
    )
    expected = 0.5 * (1 + math.erf(shift / 2))
    assert measured.auc == pytest.approx(expected, abs=0.03)
    assert measured.low <= expected <= measured.high
    assert measured.low <= measured.auc <= measured.high


def test_the_interval_is_as_wide_as_theory_says() -> None:
    """Without a difference the AUC's variance is (n + m + 1) / (12 n m)."""
    n, m = 300, 500
    measured = separation(
        torch.randn(n, generator=source(3)), torch.randn(m, generator=source(4)), seed=0
    )
    assert measured.high - measured.low == pytest.approx(
        2 * 1.96 * math.sqrt((n + m + 1) / (12 * n * m)), rel=0.1
    )
    again = separation(
        torch.randn(n, generator=source(3)), torch.randn(m, generator=source(4)), seed=0
    )
    assert (measured.low, measured.high) == (again.low, again.high)


def test_a_split_shares_no_sample_and_loses_none() -> None:
    samples = Samples(torch.arange(50.0)[:, None], torch.arange(50))
    first, second = samples.split(0.8, seed=0)
    assert (len(first.class_n), len(second.class_n)) == (40, 10)
    assert torch.cat([first.class_n, second.class_n]).sort().values.tolist() == list(range(50))
    assert torch.equal(first.features_nD[:, 0].long(), first.class_n)
    assert not torch.equal(first.class_n, samples.split(0.8, seed=1)[0].class_n)


# Detection

CLASSES = 4


def dictionary(n: int, seed: int, atoms: int = 0, wrong: bool = False) -> Samples:
    """Samples of 4 classes, each with 5 of 20 atoms of its own, of which a sample has 2; `wrong`: taken for the next class."""
    atoms_AD = F.normalize(torch.randn(20, 24, generator=source(100 + atoms)), dim=1)
    class_n = torch.arange(n) % CLASSES
    rank_nA = torch.rand(n, 20, generator=source(seed)) + (
        torch.arange(20) // 5 != class_n[:, None]
    )
    chosen_nA = rank_nA.argsort(dim=1).argsort(dim=1) < 2
    f_nD = (chosen_nA * (1 + torch.rand(n, 20, generator=source(seed + 50)))) @ atoms_AD
    noise_nD = 0.05 * torch.randn(n, 24, generator=source(seed + 60))
    return Samples(f_nD + noise_nD, (class_n + wrong) % CLASSES)


def detected(inverted: Samples) -> dict[str, DetectorResult]:
    fit, held = dictionary(1000, 1).split(0.6, seed=0)
    inverted_fit, inverted_held = inverted.split(0.5, seed=0)
    real, shared = KSparse(24, 40, 2, seed=0), KSparse(24, 40, 2, seed=0)
    train_autoencoder(real, fit.features_nD, seed=0, epochs=15)
    train_autoencoder(
        shared, torch.cat([fit.features_nD, inverted_fit.features_nD]), seed=0, epochs=15
    )
    return detect(
        fit, held, dictionary(400, 2), inverted_fit, inverted_held, real, shared, CLASSES, seed=0
    )


def test_what_comes_from_one_distribution_is_not_told_apart() -> None:
    detectors = detected(dictionary(800, 3))
    assert set(detectors) == {*CONTROLS, *CONTROLS.values()}
    for detector in detectors.values():
        assert detector.inverted.auc == pytest.approx(0.5, abs=0.09)
        assert detector.control.auc == pytest.approx(0.5, abs=0.09)


def test_another_dictionary_is_told_by_every_score_that_can() -> None:
    detectors = detected(dictionary(800, 3, atoms=1))
    assert all(detectors[name].inverted.auc > 0.95 for name in CONTROLS)
    assert all(
        detector.control.auc == pytest.approx(0.5, abs=0.09) for detector in detectors.values()
    )


def test_real_features_in_the_wrong_class_are_told_by_their_pattern_alone() -> None:
    detectors = detected(dictionary(800, 3, wrong=True))
    assert detectors["pattern"].inverted.auc > 0.99
    assert detectors["pattern_features"].inverted.auc > 0.99
    for name in ("reconstruction", "regression", "reconstruction_pca", "regression_features"):
        assert detectors[name].inverted.auc == pytest.approx(0.5, abs=0.09)


def test_a_class_without_training_data_is_as_far_as_can_be() -> None:
    """All scores of inverted samples are then 1, above any that shares a unit with its class."""
    fit, held = dictionary(400, 1).split(0.5, seed=0)
    elsewhere = Samples(dictionary(200, 3).features_nD, torch.full((200,), CLASSES))
    model = KSparse(24, 40, 2, seed=0)
    train_autoencoder(model, fit.features_nD, seed=0, epochs=5)
    detectors = detect(
        fit, held, dictionary(200, 2), elsewhere, elsewhere, model, model, CLASSES + 1, seed=0
    )
    assert detectors["pattern"].inverted.auc > 0.95
