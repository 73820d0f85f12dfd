"""Perturbation shifts: equal strength in closed form, sizes by hand, planted detectors, a verdict that goes either way (A2-15, A8-9).

Shape suffixes: n images, m perturbed images, C channels, H height, W width, P pixels, D detectors, S the sample and its resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
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
from netinv_lightning.evaluation.image_sets import of_split
from netinv_lightning.inversion.perturbation import NORMS, Perturbation
from netinv_lightning.metrics.detection import auroc_interval
from netinv_lightning.ood.detectors import Detector, Seen
from netinv_lightning.ood.detectors.detector import OfLogits
from netinv_lightning.ood.detectors.scores import energy, msp
from netinv_lightning.ood.perturbed import (
    COLUMNS,
    DIRECTIONS,
    Gain,
    Resamples,
    Row,
    Shifts,
    Step,
    between,
    concentration,
    gain,
    perturbed,
    radius,
    shifts,
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
    """Of a gray image, so strong that nothing is cut only because it may not be."""
    gray = torch.full((n, 1, 1, P), 0.5)
    perturbation = Perturbation(norm, radius(norm, rms, P), clamp=False)
    return perturbation(gray, torch.zeros(n, dtype=torch.long), lambda x: x, Stream(0)) - gray


# Strength and concentration


@pytest.mark.parametrize("P", [12, 784])
@pytest.mark.parametrize("norm", NORMS)
def test_random_perturbations_of_all_norms_have_the_rms_that_was_asked_for(
    norm: str, P: int
) -> None:
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
    """Of one value all norms are its magnitude, of which L1 and L2 draw the sign alone."""
    assert [radius(norm, 0.1, 1) for norm in NORMS] == pytest.approx([0.1, 0.1, 0.1 * 3**0.5])
    assert [radius(norm, 0.1, 4) for norm in NORMS] == pytest.approx(
        [0.1 * 10**0.5, 0.2, 0.1 * 3**0.5]
    )


def test_concentration_in_closed_form() -> None:
    """Share of the second moment beyond the 99 % quantile of the magnitude: Laplace, normal, uniform. L1 is the least even."""
    log, z = math.log(100), NormalDist().inv_cdf(0.995)
    expected = {
        "l1": 0.01 * (log**2 + 2 * log + 2) / 2,
        "l2": 2 * z * NormalDist().pdf(z) + 0.01,
        "linf": 1 - 0.99**3,
    }
    reached = {norm: concentration(random_change(norm, 0.01, 50, 10_000)) for norm in NORMS}
    assert reached == pytest.approx(expected, rel=0.02)
    assert expected == pytest.approx({"l1": 0.162, "l2": 0.0845, "linf": 0.0297}, rel=0.005)


def test_concentration_counts_the_channels_of_a_pixel_together() -> None:
    change = torch.zeros(1, 3, 10, 20)
    change[0, :, 0, :4] = 0.1  # the two most changed of 200 pixels carry a half
    assert concentration(change) == pytest.approx(0.5)
    change[0, 0, 5, 5] = -0.3  # alone 0.09 of 0.21, with another pixel 0.12
    assert concentration(change) == pytest.approx(0.12 / 0.21)
    assert concentration(torch.ones(3, 1, 10, 10)) == pytest.approx(0.01)


def test_every_image_is_led_away_from_its_own_label() -> None:
    """Also beyond the first batch; what comes back is in the order of the images."""
    classifier, labels_m = linear_classifier(), torch.randint(3, (230,), generator=source())
    x_mCHW = 0.3 + 0.4 * torch.rand(230, 1, 16, 16, generator=source())
    for norm in NORMS:
        changed_mCHW = perturbed(
            Perturbation(norm, radius(norm, 0.003, 256), "adversarial"),
            classifier,
            x_mCHW,
            labels_m,
            seed=0,
        )
        before_m, after_m = (
            -classifier(x).log_softmax(dim=1)[range(230), labels_m] for x in (x_mCHW, changed_mCHW)
        )
        assert (after_m > before_m).all(), norm


# Resamples


def test_aurocs_are_those_of_the_images_drawn() -> None:
    score_n, score_m = (
        torch.randint(6, (size,), generator=source(size)).double() for size in (23, 31)
    )  # with ties
    resamples = Resamples(23, 31, seed=5)
    auroc_S = resamples.aurocs(score_n, score_m)
    for s in (0, 1, 2, 1000):
        drawn = [
            score_n.repeat_interleave(resamples.times_Sn[s].long()),
            score_m.repeat_interleave(resamples.times_Sm[s].long()),
        ]
        assert [len(scores) for scores in drawn] == [23, 31]
        assert float(auroc_S[s]) == pytest.approx(
            roc_auc_score([0] * 23 + [1] * 31, torch.cat(drawn))
        )
    assert torch.equal(resamples.times_Sn[0], torch.ones(23).double())


def test_their_spread_is_that_of_the_interval() -> None:
    score_n, score_m = (
        torch.randn(300, generator=source(1)).double(),
        torch.randn(300, generator=source(2)).double() + 0.7,
    )
    ends = (
        Resamples(300, 300, seed=0)
        .aurocs(score_n, score_m)[1:]
        .quantile(torch.tensor([0.025, 0.975]).double())
    )
    assert ends.tolist() == pytest.approx(auroc_interval(score_n, score_m, 0), abs=0.006)


# Comparison at equal size


def step(rms: float, *aurocs: float, S: int = 1001) -> Step:
    return Step(rms, torch.tensor(aurocs).double()[:, None].expand(-1, S))


LADDER = [step(0.0, 0.5, 0.5), step(0.01, 0.6, 0.5), step(0.03, 0.8, 0.9)]


def test_between_sizes_is_logarithmic_and_starts_at_the_control() -> None:
    for known in LADDER:
        torch.testing.assert_close(between(LADDER, known.rms), known.auroc_DS)
    assert between(LADDER, 0.09)[:, 0].tolist() == pytest.approx([0.8, 0.9])
    middle = 0.01 * (8**0.5 - 1)  # log(1 + size / 0.01) is log 2 at the one end, log 4 at the other
    assert between(LADDER, middle)[:, 0].tolist() == pytest.approx([0.7, 0.7])
    assert between(LADDER, 0.01 * (2**0.5 - 1))[:, 0].tolist() == pytest.approx([0.55, 0.5])


def test_a_gain_is_the_difference_at_equal_size() -> None:
    """What is larger than any Linf perturbation does not count, however well it is detected."""
    judged = gain(
        "random",
        "l1",
        [step(0.01, 0.7, 0.5), step(0.03, 0.7, 1.0), step(0.031, 1.0, 1.0)],
        LADDER,
        seed=0,
    )
    assert (judged.settings, judged.above, judged.mean) == (
        4,
        2,
        pytest.approx(0.025),
    )  # +0.1, 0, -0.1, +0.1
    assert judged.spread == pytest.approx(((2 * 0.075**2 + 0.025**2 + 0.125**2) / 4) ** 0.5)
    assert judged.low < 0 < judged.high
    none = gain("random", "l1", [step(0.04, 1.0, 1.0)], LADDER, seed=0)
    assert (none.settings, none.above, str(none)) == (0, 0, "l1 never at equal RMS")
    assert math.isnan(none.mean)


def test_one_setting_alone_decides_nothing() -> None:
    """Of eight settings seven are equal: the interval of the mean touches zero. Where all agree it does not."""
    linf = [step(0.0, *[0.5] * 8), step(0.1, *[0.5] * 8)]
    alone = gain("random", "l2", [step(0.1, *[0.5] * 7, 0.9)], linf, seed=0)
    assert (alone.low, alone.mean) == (0, pytest.approx(0.05))
    agreed = gain("random", "l2", [step(0.1, *[0.52, 0.54] * 4)], linf, seed=0)
    assert 0.02 < agreed.low < agreed.mean < agreed.high < 0.04


# The verdict


def row(direction: str, norm: str, share: float) -> Row:
    return Row(direction, norm, 0.1, "msp", 0.7, 0.6, 0.8, 0.9, share, 2.8, 0.3)


def judged(direction: str, norm: str, low: float, high: float, settings: int = 8) -> Gain:
    return Gain(direction, norm, settings, 5, (low + high) / 2, low, high, 0.01)


def study(
    l1: tuple[float, float],
    l2: tuple[float, float],
    shares: tuple[float, float, float],
    settings: int = 8,
) -> Shifts:
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
    return Shifts(tuple(rows), tuple(gains), {"msp": 0.51}, 0.99)


UP, DOWN, NEITHER = (0.01, 0.03), (-0.03, -0.01), (-0.01, 0.02)


@pytest.mark.parametrize(
    ("l1", "l2", "claim"),
    [
        (UP, UP, "holds in random"),
        (UP, DOWN, "holds for l1 alone in random"),
        (NEITHER, UP, "holds for l2 alone in random"),
        (NEITHER, NEITHER, "is not borne out in random"),
        (NEITHER, DOWN, "is refuted in random"),
        (DOWN, DOWN, "is refuted in random"),
    ],
)
def test_the_claim_goes_the_way_of_the_numbers(
    l1: tuple[float, float], l2: tuple[float, float], claim: str
) -> None:
    verdict = study(l1, l2, (0.2, 0.1, 0.03)).verdict()
    assert (
        f"better than Linf at equal RMS {claim} perturbations (difference of AUROC: l1 {sum(l1) / 2:+.3f} ["
        in verdict
    )
    assert verdict.count(". ") == 0
    assert verdict.endswith(".")


@pytest.mark.parametrize(
    ("shares", "claim"),
    [
        ((0.2, 0.1, 0.03), "is refuted"),
        ((0.01, 0.02, 0.03), "holds"),
        ((0.02, 0.1, 0.03), "holds for l1 alone"),
    ],
)
def test_evenness_goes_the_way_of_the_numbers(
    shares: tuple[float, float, float], claim: str
) -> None:
    told = ", ".join(f"{norm} {share:.2f}" for norm, share in zip(NORMS, shares, strict=True))
    verdict = study(UP, UP, shares).verdict()
    assert verdict.endswith(
        f"and {claim} in adversarial ones (squared change in the top 1 % of pixels: {told})."
    )


def test_what_was_never_at_equal_size_is_not_judged() -> None:
    verdict = study((math.nan,) * 2, (math.nan,) * 2, (0.2, 0.1, 0.03), settings=0).verdict()
    assert (
        "cannot be judged in random perturbations (difference of AUROC: l1 never at equal RMS; l2 never"
        in verdict
    )


def test_the_table_has_all_rows_and_the_verdict_below() -> None:
    whole = study(UP, NEITHER, (0.2, 0.1, 0.03))
    table = whole.table()
    assert len(table.rows) == 6
    assert table.notes[0] == whole.verdict()
    assert "accuracy 0.990" in table.notes[1]
    assert "msp 0.510" in table.notes[1]
    assert list(COLUMNS) == [field.name for field in fields(Row)]
    told = dict(zip(table.columns, table.rows[1], strict=True))
    assert (told["direction"], told["norm"], told["AUROC"], told["top 1 %"], told["L2"]) == (
        "random",
        "l2",
        0.7,
        0.1,
        2.8,
    )


# Planted detectors


def peak(seen: Seen) -> Tensor:
    """Sees the largest change: what Linf bounds."""
    x_nP = seen.images_nCHW.flatten(1).double()
    return (x_nP - x_nP.mean(dim=1, keepdim=True)).abs().amax(dim=1) + x_nP.mean(dim=1)


def mass(seen: Seen) -> Tensor:
    """Sees the mean change, which at equal RMS is the larger the more evenly it is spread."""
    x_nP = seen.images_nCHW.flatten(1).double()
    return (x_nP - x_nP.mean(dim=1, keepdim=True)).abs().mean(dim=1) + x_nP.mean(dim=1)


def gray(n: int = 200) -> tuple[Tensor, Tensor]:
    """Images of one gray each, from 0.4 to 0.6, which is what hides a change from the planted detectors."""
    level_n = 0.4 + 0.2 * torch.rand(n, generator=source())
    return level_n[:, None, None, None].expand(n, 1, 16, 16).contiguous(), torch.arange(n) % 3


@pytest.mark.parametrize(("rule", "claim"), [(peak, "holds"), (mass, "is refuted")])
def test_planted_detectors_decide_the_claim(rule: Callable[[Seen], Tensor], claim: str) -> None:
    classifier = linear_classifier()
    found = shifts(
        {"planted": Detector("planted", classifier, rule)}, *gray(), strengths=(0.03, 0.1), seed=0
    )
    assert f"at equal RMS {claim} in random perturbations" in found.verdict()
    auroc = {
        norm: next(
            row.auroc
            for row in found.rows
            if (row.direction, row.norm, row.rms) == ("random", norm, 0.1)
        )
        for norm in NORMS
    }
    assert sorted(NORMS, key=lambda norm: auroc[norm], reverse=rule is peak) == list(NORMS)
    of_random = {gain.norm: gain for gain in found.gains if gain.direction == "random"}
    assert abs(of_random["l1"].mean) > abs(of_random["l2"].mean) > 0


@pytest.fixture(scope="module")
def digits() -> tuple[dict[str, Detector], Tensor, Tensor]:
    classifier, images = load_zoo("mnist_mlp"), of_split(ImageDataModule(name="mnist5k").test, 150)
    detectors = {
        name: Detector(name, classifier, OfLogits(of))
        for name, of in (("msp", msp), ("energy", energy))
    }
    return detectors, images.images_nCHW, images.labels_n


def test_one_row_of_each_kind_and_sizes_in_the_ball(
    digits: tuple[dict[str, Detector], Tensor, Tensor],
) -> None:
    found = shifts(*digits, strengths=(0.1, 0.01), seed=0)
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
    assert found.accuracy > 0.9
    for norm in (
        NORMS
    ):  # every attack is one: an L1 attack that is cut to [0, 1] would be weaker than chance
        assert accuracy["adversarial", norm] < accuracy["random", norm] - 0.5
    share = {(row.direction, row.norm): row.concentration for row in found.rows if row.rms == 0.1}
    assert share["random", "l1"] > share["random", "l2"] > share["random", "linf"]
    assert share["adversarial", "l1"] > 2 * share["adversarial", "linf"]
    assert all(0.3 < auroc < 0.7 for auroc in found.control.values())


def test_no_image_is_compared_with_itself_and_all_detectors_share_each_pass() -> None:
    """Images told by their first pixel: the halves are disjoint, and each kind is seen once, an attack's five steps beside."""
    looks: list[Tensor] = []

    def note(seen: Seen) -> Tensor:
        looks.append(seen.images_nCHW)
        return seen.logits_nN[:, 0].double()

    classifier, (x_nCHW, labels_n) = linear_classifier(), gray(61)
    detectors = {name: Detector(name, classifier, note) for name in ("first", "second")}
    before = classifier.passes.forwards
    shifts(detectors, x_nCHW, labels_n, strengths=(0.1,), seed=3)
    assert classifier.passes.forwards - before == 31 + 30 * (1 + 3 + 3 * (1 + 5))
    own_n, other_m = (set(looks[i][:, 0, 0, 0].tolist()) for i in (0, 2))
    assert (len(own_n), len(other_m)) == (31, 30)
    assert own_n | other_m == set(x_nCHW[:, 0, 0, 0].tolist())
    assert len(looks) == 2 * (2 + 6)


def test_one_seed_gives_the_same_bits_and_leaves_the_global_ones(
    digits: tuple[dict[str, Detector], Tensor, Tensor],
) -> None:
    detectors, x_nCHW, labels_n = digits
    state = torch.get_rng_state()
    first, again, other = (
        shifts({"msp": detectors["msp"]}, x_nCHW[:60], labels_n[:60], strengths=(0.03,), seed=seed)
        for seed in (7, 7, 8)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert first == again
    assert first.rows != other.rows


# Bad input


@pytest.mark.parametrize("strengths", [(), (0.0,), (-0.1, 0.1), (1.1,), (math.nan,), (0.1, 0.1)])
def test_bad_strengths_are_refused(strengths: tuple[float, ...]) -> None:
    detectors = {"peak": Detector("peak", linear_classifier(), peak)}
    with pytest.raises(
        InputError,
        match=r"^application.strengths=\[.*\]: must be one or more RMS changes, each above 0, at most 1",
    ):
        shifts(detectors, *gray(), strengths=strengths, seed=0)


def test_bad_images_and_detectors_are_refused() -> None:
    detectors, (x_nCHW, labels_n) = {"peak": Detector("peak", linear_classifier(), peak)}, gray()
    with pytest.raises(InputError, match=r"^application.detectors: must name one or more$"):
        shifts({}, x_nCHW, labels_n, (0.1,), 0)
    with pytest.raises(
        InputError, match=r"^images: 200 with 199 labels; must be 20 or more, with one label each$"
    ):
        shifts(detectors, x_nCHW, labels_n[1:], (0.1,), 0)
    with pytest.raises(InputError, match=r"^images: 19 with 19 labels"):
        shifts(detectors, x_nCHW[:19], labels_n[:19], (0.1,), 0)
    with pytest.raises(InputError, match=r"^images: some pixels are NaN or outside of \[0, 1\]"):
        shifts(detectors, x_nCHW + 1, labels_n, (0.1,), 0)
