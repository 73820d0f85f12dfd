"""Detection of inverted samples: AUC by hand, closed forms and planted differences.

Shape suffixes: n samples, m other samples, D features, M units, N classes, A atoms.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from netinv_lightning.interpretability.anomaly import (
    CONTROLS,
    DetectorResult,
    Samples,
    detect,
    separation,
)
from netinv_lightning.interpretability.autoencoders import KSparse, train_autoencoder


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Separation


def test_auc_by_hand() -> None:
    measured = separation(torch.tensor([3.0, 1]), torch.tensor([2.0, 0]), seed=0)
    assert measured.auc == 0.75
    assert (
        separation(torch.tensor([1.0, 1]), torch.tensor([1.0, 0]), seed=0).auc == 0.75
    )  # ties count one half
    assert (measured.false_positive_R[0], measured.true_positive_R[0]) == (0, 0)
    assert (measured.false_positive_R[-1], measured.true_positive_R[-1]) == (1, 1)
    assert torch.trapezoid(measured.true_positive_R, measured.false_positive_R) == pytest.approx(
        0.75
    )


def test_separation_of_disjoint_scores() -> None:
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


def test_the_interval_has_the_theoretical_width() -> None:
    """The variance of the AUC without a difference is (n + m + 1) / (12 n m)."""
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


def test_a_split_is_a_partition() -> None:
    samples = Samples(torch.arange(50.0)[:, None], torch.arange(50))
    first, second = samples.split(0.8, seed=0)
    assert (len(first.class_n), len(second.class_n)) == (40, 10)
    assert torch.cat([first.class_n, second.class_n]).sort().values.tolist() == list(range(50))
    assert torch.equal(first.features_nD[:, 0].long(), first.class_n)
    assert not torch.equal(first.class_n, samples.split(0.8, seed=1)[0].class_n)


# Detection

CLASSES = 4


def dictionary(n: int, seed: int, atoms: int = 0, wrong: bool = False) -> Samples:
    """Return samples of 4 classes; if `wrong`, the predicted class is the next one.

    Each class has 5 of 20 atoms, and each sample has 2 of these.
    """
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


def test_samples_of_one_distribution_are_not_separated() -> None:
    detectors = detected(dictionary(800, 3))
    assert set(detectors) == {*CONTROLS, *CONTROLS.values()}
    for detector in detectors.values():
        assert detector.inverted.auc == pytest.approx(0.5, abs=0.09)
        assert detector.control.auc == pytest.approx(0.5, abs=0.09)


def test_another_dictionary_is_separated() -> None:
    detectors = detected(dictionary(800, 3, atoms=1))
    assert all(detectors[name].inverted.auc > 0.95 for name in CONTROLS)
    assert all(
        detector.control.auc == pytest.approx(0.5, abs=0.09) for detector in detectors.values()
    )


def test_real_features_of_a_wrong_class_have_another_pattern() -> None:
    detectors = detected(dictionary(800, 3, wrong=True))
    assert detectors["pattern"].inverted.auc > 0.99
    assert detectors["pattern_features"].inverted.auc > 0.99
    for name in ("reconstruction", "regression", "reconstruction_pca", "regression_features"):
        assert detectors[name].inverted.auc == pytest.approx(0.5, abs=0.09)


def test_a_class_without_training_data_has_the_largest_score() -> None:
    """Inverted samples score 1, more than any sample that shares a unit with its class."""
    fit, held = dictionary(400, 1).split(0.5, seed=0)
    elsewhere = Samples(dictionary(200, 3).features_nD, torch.full((200,), CLASSES))
    model = KSparse(24, 40, 2, seed=0)
    train_autoencoder(model, fit.features_nD, seed=0, epochs=5)
    detectors = detect(
        fit, held, dictionary(200, 2), elsewhere, elsewhere, model, model, CLASSES + 1, seed=0
    )
    assert detectors["pattern"].inverted.auc > 0.95
