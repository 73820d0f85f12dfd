"""Perturbation study: closed forms, planted detectors and every verdict.

Shape suffixes: n images, m perturbed images, C channels, H height, W width, P pixels, D detectors,
S the sample and its bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from statistics import NormalDist

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.real_data import of_split
from netinv_lightning.inversion.perturbation import NORMS, Perturbation
from netinv_lightning.metrics.detection import auroc_interval
from netinv_lightning.ood.detectors import Detector, FeatureSet
from netinv_lightning.ood.detectors.logit_scores import energy, msp
from netinv_lightning.ood.detectors.registry import LogitScorer
from netinv_lightning.ood.detectors.scorer import Scorer
from netinv_lightning.ood.paired_auroc import PairedBootstrap, Strength, interpolate, norm_gain
from netinv_lightning.ood.perturbation_results import (
    COLUMNS,
    DIRECTIONS,
    NormGain,
    PerturbationResults,
    PerturbationRow,
)
from netinv_lightning.ood.perturbation_study import (
    concentration,
    perturb,
    perturbation_study,
    radius,
)
from netinv_lightning.training.distributed import Stream

SMALL = DataSpec("small", 3, 1, 16, (0.0,), (1.0,), ("a", "b", "c"))


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_classifier() -> FrozenClassifier:
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
    with torch.no_grad():
        network[1].weight.copy_(torch.randn(3, 256, generator=source(1)))
        network[1].bias.zero_()
    return FrozenClassifier(network, SMALL)


def random_change(norm: str, rms: float, n: int, P: int) -> Tensor:
    """Return unclipped random perturbations of grey images, [n, 1, 1, P]."""
    gray = torch.full((n, 1, 1, P), 0.5)
    perturbation = Perturbation(norm, radius(norm, rms, P), clamp=False)
    return perturbation(gray, torch.zeros(n, dtype=torch.long), lambda x: x, Stream(0)) - gray


# Strength and concentration


@pytest.mark.parametrize("P", [12, 784])
@pytest.mark.parametrize("norm", NORMS)
def test_random_perturbations_of_all_norms_have_the_same_rms(norm: str, P: int) -> None:
    change_nP = random_change(norm, 0.03, 4000, P).flatten(1).double()
    assert float(change_nP.square().mean().sqrt()) == pytest.approx(0.03, rel=0.02)
    if norm == "l2":
        torch.testing.assert_close(
            change_nP.square().mean(dim=1).sqrt(),
            torch.full((4000,), 0.03).double(),
            rtol=1e-4,
            atol=0,
        )


def test_radii_by_hand() -> None:
    """For a single value every norm is its magnitude, and L1 and L2 draw only the sign."""
    assert [radius(norm, 0.1, 1) for norm in NORMS] == pytest.approx([0.1, 0.1, 0.1 * 3**0.5])
    assert [radius(norm, 0.1, 4) for norm in NORMS] == pytest.approx(
        [0.1 * 10**0.5, 0.2, 0.1 * 3**0.5]
    )


def test_concentration_in_closed_form() -> None:
    """Compute second moments above the 99 % quantile: Laplace, normal, uniform distribution."""
    log, z = math.log(100), NormalDist().inv_cdf(0.995)
    expected = {
        "l1": 0.01 * (log**2 + 2 * log + 2) / 2,
        "l2": 2 * z * NormalDist().pdf(z) + 0.01,
        "linf": 1 - 0.99**3,
    }
    reached = {norm: concentration(random_change(norm, 0.01, 50, 10_000)) for norm in NORMS}
    assert reached == pytest.approx(expected, rel=0.02)
    assert expected == pytest.approx({"l1": 0.162, "l2": 0.0845, "linf": 0.0297}, rel=0.005)


def test_concentration_sums_the_channels_of_a_pixel() -> None:
    change = torch.zeros(1, 3, 10, 20)
    change[0, :, 0, :4] = 0.1  # the two most changed of 200 pixels carry half of it
    assert concentration(change) == pytest.approx(0.5)
    change[0, 0, 5, 5] = -0.3  # 0.09 of 0.21, and 0.12 with one more pixel
    assert concentration(change) == pytest.approx(0.12 / 0.21)
    assert concentration(torch.ones(3, 1, 10, 10)) == pytest.approx(0.01)


def test_each_image_is_perturbed_against_its_own_label() -> None:
    """This holds after the first batch too, and the order of the images is kept."""
    classifier, labels_m = linear_classifier(), torch.randint(3, (230,), generator=source())
    x_mCHW = 0.3 + 0.4 * torch.rand(230, 1, 16, 16, generator=source())
    for norm in NORMS:
        perturbed_mCHW = perturb(
            Perturbation(norm, radius(norm, 0.003, 256), "adversarial"),
            classifier,
            x_mCHW,
            labels_m,
            seed=0,
        )
        before_m, after_m = (
            -classifier(x).log_softmax(dim=1)[range(230), labels_m]
            for x in (x_mCHW, perturbed_mCHW)
        )
        assert (after_m > before_m).all(), norm


# Paired bootstrap


def test_aurocs_of_resamples_equal_those_of_the_drawn_images() -> None:
    score_n, score_m = (
        torch.randint(6, (size,), generator=source(size)).double() for size in (23, 31)
    )  # integers, so there are ties
    bootstrap = PairedBootstrap(23, 31, seed=5)
    auroc_S = bootstrap.aurocs(score_n, score_m)
    for s in (0, 1, 2, 1000):
        drawn = [
            score_n.repeat_interleave(bootstrap.count_Sn[s].long()),
            score_m.repeat_interleave(bootstrap.count_Sm[s].long()),
        ]
        assert [len(scores) for scores in drawn] == [23, 31]
        assert float(auroc_S[s]) == pytest.approx(
            roc_auc_score([0] * 23 + [1] * 31, torch.cat(drawn))
        )
    assert torch.equal(bootstrap.count_Sn[0], torch.ones(23).double())


def test_spread_of_resamples_equals_the_bootstrap_interval() -> None:
    score_n, score_m = (
        torch.randn(300, generator=source(1)).double(),
        torch.randn(300, generator=source(2)).double() + 0.7,
    )
    ends = (
        PairedBootstrap(300, 300, seed=0)
        .aurocs(score_n, score_m)[1:]
        .quantile(torch.tensor([0.025, 0.975]).double())
    )
    assert ends.tolist() == pytest.approx(auroc_interval(score_n, score_m, 0), abs=0.006)


# Comparison at equal size


def strength(rms: float, *aurocs: float, S: int = 1001) -> Strength:
    return Strength(rms, torch.tensor(aurocs).double()[:, None].expand(-1, S))


STRENGTHS = [strength(0.0, 0.5, 0.5), strength(0.01, 0.6, 0.5), strength(0.03, 0.8, 0.9)]


def test_interpolation_between_strengths_is_logarithmic() -> None:
    for point in STRENGTHS:
        torch.testing.assert_close(interpolate(STRENGTHS, point.rms), point.auroc_DS)
    assert interpolate(STRENGTHS, 0.09)[:, 0].tolist() == pytest.approx([0.8, 0.9])
    middle = 0.01 * (8**0.5 - 1)  # log(1 + size / 0.01) is log 2 at one end and log 4 at the other
    assert interpolate(STRENGTHS, middle)[:, 0].tolist() == pytest.approx([0.7, 0.7])
    assert interpolate(STRENGTHS, 0.01 * (2**0.5 - 1))[:, 0].tolist() == pytest.approx([0.55, 0.5])


def test_gain_is_the_mean_difference_at_equal_size() -> None:
    """Strengths above all Linf perturbations are ignored, whatever their AUROC."""
    judged = norm_gain(
        "random",
        "l1",
        [strength(0.01, 0.7, 0.5), strength(0.03, 0.7, 1.0), strength(0.031, 1.0, 1.0)],
        STRENGTHS,
        seed=0,
    )
    # The differences are +0.1, 0, -0.1 and +0.1.
    assert (judged.settings, judged.higher, judged.mean) == (
        4,
        2,
        pytest.approx(0.025),
    )
    assert judged.spread == pytest.approx(((2 * 0.075**2 + 0.025**2 + 0.125**2) / 4) ** 0.5)
    assert judged.low < 0 < judged.high
    none = norm_gain("random", "l1", [strength(0.04, 1.0, 1.0)], STRENGTHS, seed=0)
    assert (none.settings, none.higher, str(none)) == (0, 0, "l1 never at equal RMS")
    assert math.isnan(none.mean)


def test_a_single_setting_does_not_decide_the_claim() -> None:
    """With seven of eight differences at 0, the interval includes 0."""
    linf = [strength(0.0, *[0.5] * 8), strength(0.1, *[0.5] * 8)]
    alone = norm_gain("random", "l2", [strength(0.1, *[0.5] * 7, 0.9)], linf, seed=0)
    assert (alone.low, alone.mean) == (0, pytest.approx(0.05))
    agreed = norm_gain("random", "l2", [strength(0.1, *[0.52, 0.54] * 4)], linf, seed=0)
    assert 0.02 < agreed.low < agreed.mean < agreed.high < 0.04


# The verdict


def row(direction: str, norm: str, share: float) -> PerturbationRow:
    return PerturbationRow(direction, norm, 0.1, "msp", 0.7, 0.6, 0.8, 0.9, share, 2.8, 0.3)


def judged(direction: str, norm: str, low: float, high: float, settings: int = 8) -> NormGain:
    return NormGain(direction, norm, settings, 5, (low + high) / 2, low, high, 0.01)


def results(
    l1: tuple[float, float],
    l2: tuple[float, float],
    shares: tuple[float, float, float],
    settings: int = 8,
) -> PerturbationResults:
    rows = [
        row(direction, norm, share)
        for direction in DIRECTIONS
        for norm, share in zip(NORMS, shares, strict=True)
    ]
    gains = [
        judged(direction, norm, *ends, settings)
        for direction in DIRECTIONS
        for norm, ends in (("l1", l1), ("l2", l2))
    ]
    return PerturbationResults(tuple(rows), tuple(gains), {"msp": 0.51}, 0.99)


UP, DOWN, NEITHER = (0.01, 0.03), (-0.03, -0.01), (-0.01, 0.02)


@pytest.mark.parametrize(
    ("l1", "l2", "claim"),
    [
        (UP, UP, "holds for random"),
        (UP, DOWN, "holds for l1 only for random"),
        (NEITHER, UP, "holds for l2 only for random"),
        (NEITHER, NEITHER, "not confirmed for random"),
        (NEITHER, DOWN, "refuted for random"),
        (DOWN, DOWN, "refuted for random"),
    ],
)
def test_verdict_on_detection_follows_the_intervals(
    l1: tuple[float, float], l2: tuple[float, float], claim: str
) -> None:
    verdict = results(l1, l2, (0.2, 0.1, 0.03)).verdict()
    assert (
        f"better than Linf at equal RMS: {claim} perturbations "
        f"(difference of AUROC: l1 {sum(l1) / 2:+.3f} [" in verdict
    )
    assert verdict.count(". ") == 1
    assert verdict.endswith(".")


@pytest.mark.parametrize(
    ("shares", "claim"),
    [
        ((0.2, 0.1, 0.03), "refuted"),
        ((0.01, 0.02, 0.03), "holds"),
        ((0.02, 0.1, 0.03), "holds for l1 only"),
    ],
)
def test_verdict_on_evenness_follows_the_shares(
    shares: tuple[float, float, float], claim: str
) -> None:
    expected = ", ".join(f"{norm} {share:.2f}" for norm, share in zip(NORMS, shares, strict=True))
    verdict = results(UP, UP, shares).verdict()
    assert verdict.endswith(
        f"and {claim} for adversarial perturbations "
        f"(squared change in the top 1 % of pixels: {expected})."
    )


def test_claim_without_equal_sizes_is_not_tested() -> None:
    verdict = results((math.nan,) * 2, (math.nan,) * 2, (0.2, 0.1, 0.03), settings=0).verdict()
    assert (
        "not tested for random perturbations (difference of AUROC: l1 never at equal RMS; l2 never"
        in verdict
    )


def test_table_has_all_rows_and_the_verdict_as_a_note() -> None:
    whole = results(UP, NEITHER, (0.2, 0.1, 0.03))
    table = whole.table()
    assert len(table.rows) == 6
    assert table.notes[0] == whole.verdict()
    assert "accuracy 0.990" in table.notes[1]
    assert "msp 0.510" in table.notes[1]
    assert list(COLUMNS) == [field.name for field in fields(PerturbationRow)]
    cells = dict(zip(table.columns, table.rows[1], strict=True))
    assert (cells["direction"], cells["norm"], cells["AUROC"], cells["top 1 %"], cells["L2"]) == (
        "random",
        "l2",
        0.7,
        0.1,
        2.8,
    )


# Planted detectors


@dataclass(frozen=True)
class PlantedScorer(Scorer):
    score: Callable[[FeatureSet], Tensor]

    def __call__(self, features: FeatureSet) -> Tensor:
        return self.score(features)


def peak(features: FeatureSet) -> Tensor:
    """Score the largest change of a pixel, which Linf bounds."""
    x_nP = features.images_nCHW.flatten(1).double()
    return (x_nP - x_nP.mean(dim=1, keepdim=True)).abs().amax(dim=1) + x_nP.mean(dim=1)


def mass(features: FeatureSet) -> Tensor:
    """Score the mean change of a pixel, which at equal RMS is larger for a more even change."""
    x_nP = features.images_nCHW.flatten(1).double()
    return (x_nP - x_nP.mean(dim=1, keepdim=True)).abs().mean(dim=1) + x_nP.mean(dim=1)


def planted(
    name: str, classifier: FrozenClassifier, score: Callable[[FeatureSet], Tensor]
) -> Detector:
    return Detector(name, classifier, PlantedScorer(score))


def gray(n: int = 200) -> tuple[Tensor, Tensor]:
    """Return images of one grey value each, from 0.4 to 0.6."""
    level_n = 0.4 + 0.2 * torch.rand(n, generator=source())
    return level_n[:, None, None, None].expand(n, 1, 16, 16).contiguous(), torch.arange(n) % 3


@pytest.mark.parametrize(("score", "claim"), [(peak, "holds"), (mass, "refuted")])
def test_planted_detectors_decide_the_claim(
    score: Callable[[FeatureSet], Tensor], claim: str
) -> None:
    classifier = linear_classifier()
    found = perturbation_study(
        {"planted": planted("planted", classifier, score)}, *gray(), strengths=(0.03, 0.1), seed=0
    )
    assert f"at equal RMS: {claim} for random perturbations" in found.verdict()
    auroc = {
        norm: next(
            row.auroc
            for row in found.rows
            if (row.direction, row.norm, row.rms) == ("random", norm, 0.1)
        )
        for norm in NORMS
    }
    assert sorted(NORMS, key=lambda norm: auroc[norm], reverse=score is peak) == list(NORMS)
    of_random = {gain.norm: gain for gain in found.gains if gain.direction == "random"}
    assert abs(of_random["l1"].mean) > abs(of_random["l2"].mean) > 0


@pytest.fixture(scope="module")
def digits() -> tuple[dict[str, Detector], Tensor, Tensor]:
    classifier, images = load_zoo("mnist_mlp"), of_split(ImageDataModule(name="mnist5k").test, 150)
    detectors = {
        name: Detector(name, classifier, LogitScorer(score))
        for name, score in (("msp", msp), ("energy", energy))
    }
    return detectors, images.images_nCHW, images.labels_n


def test_one_row_per_setting_with_changes_inside_the_ball(
    digits: tuple[dict[str, Detector], Tensor, Tensor],
) -> None:
    found = perturbation_study(*digits, strengths=(0.1, 0.01), seed=0)
    kinds = [
        (d, norm, rms, name)
        for d in DIRECTIONS
        for norm in NORMS
        for rms in (0.01, 0.1)
        for name in digits[0]
    ]
    assert [(row.direction, row.norm, row.rms, row.detector) for row in found.rows] == kinds
    for row in found.rows:
        assert row.auroc_low <= row.auroc <= row.auroc_high
        assert row.linf <= min(1, radius(row.norm, row.rms, 784) * (1 + 1e-5))
        assert row.linf <= row.l2 <= row.linf * 28
        assert row.norm == "l1" or row.l2 <= radius(row.norm, row.rms, 784) * (
            28 if row.norm == "linf" else 1
        ) * (1 + 1e-5)
        assert (
            row.direction == "adversarial" or 0.6 < row.l2 / (28 * row.rms) < 1
        )  # black pixels cannot become darker
    accuracy = {(row.direction, row.norm): row.accuracy for row in found.rows if row.rms == 0.1}
    assert found.unperturbed_accuracy > 0.9
    # Every attack succeeds; clipping could make the L1 attack weaker than a random one.
    for norm in NORMS:
        assert accuracy["adversarial", norm] < accuracy["random", norm] - 0.5
    share = {(row.direction, row.norm): row.concentration for row in found.rows if row.rms == 0.1}
    assert share["random", "l1"] > share["random", "l2"] > share["random", "linf"]
    assert share["adversarial", "l1"] > 2 * share["adversarial", "linf"]
    assert all(0.3 < auroc < 0.7 for auroc in found.unperturbed_auroc.values())


def test_halves_are_disjoint_and_detectors_share_each_pass() -> None:
    """The classifier runs once per perturbation, and five more times per attack."""
    scored: list[Tensor] = []

    def note(features: FeatureSet) -> Tensor:
        scored.append(features.images_nCHW)
        return features.logits_nN[:, 0].double()

    classifier, (x_nCHW, labels_n) = linear_classifier(), gray(61)
    detectors = {name: planted(name, classifier, note) for name in ("first", "second")}
    before = classifier.forward_count.forwards
    perturbation_study(detectors, x_nCHW, labels_n, strengths=(0.1,), seed=3)
    assert classifier.forward_count.forwards - before == 31 + 30 * (1 + 3 + 3 * (1 + 5))
    own_n, other_m = (set(scored[i][:, 0, 0, 0].tolist()) for i in (0, 2))
    assert (len(own_n), len(other_m)) == (31, 30)
    assert own_n | other_m == set(x_nCHW[:, 0, 0, 0].tolist())
    assert len(scored) == 2 * (2 + 6)


def test_equal_seeds_give_equal_rows_and_keep_global_randomness(
    digits: tuple[dict[str, Detector], Tensor, Tensor],
) -> None:
    detectors, x_nCHW, labels_n = digits
    state = torch.get_rng_state()
    first, again, other = (
        perturbation_study(
            {"msp": detectors["msp"]}, x_nCHW[:60], labels_n[:60], strengths=(0.03,), seed=seed
        )
        for seed in (7, 7, 8)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert first == again
    assert first.rows != other.rows


# Invalid input


@pytest.mark.parametrize("strengths", [(), (0.0,), (-0.1, 0.1), (1.1,), (math.nan,), (0.1, 0.1)])
def test_invalid_strengths_are_an_input_error(strengths: tuple[float, ...]) -> None:
    detectors = {"peak": planted("peak", linear_classifier(), peak)}
    with pytest.raises(
        InputError,
        match=r"^application.strengths=\[.*\]: must be one or more different RMS changes",
    ):
        perturbation_study(detectors, *gray(), strengths=strengths, seed=0)


def test_invalid_images_and_detectors_are_an_input_error() -> None:
    detectors, (x_nCHW, labels_n) = {"peak": planted("peak", linear_classifier(), peak)}, gray()
    with pytest.raises(InputError, match=r"^application.detectors: must name one or more$"):
        perturbation_study({}, x_nCHW, labels_n, (0.1,), 0)
    with pytest.raises(
        InputError, match=r"^images: 200 with 199 labels; must be 20 or more, with one label each$"
    ):
        perturbation_study(detectors, x_nCHW, labels_n[1:], (0.1,), 0)
    with pytest.raises(InputError, match=r"^images: 19 with 19 labels"):
        perturbation_study(detectors, x_nCHW[:19], labels_n[:19], (0.1,), 0)
    with pytest.raises(InputError, match=r"^images: some pixels are NaN or outside of \[0, 1\]"):
        perturbation_study(detectors, x_nCHW + 1, labels_n, (0.1,), 0)
