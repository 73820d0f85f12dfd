"""Perturbation study: closed forms, planted detectors and every verdict.

Shape suffixes: n images, m perturbed images, C channels, H height, W width, P pixels, D detectors,
S the sample and its bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.real_data import of_split
from netinv_lightning.inversion.perturbation import NORMS, Perturbation
from netinv_lightning.ood.detectors import Detector, FeatureSet
from netinv_lightning.ood.detectors.logit_scores import energy, msp
from netinv_lightning.ood.detectors.registry import LogitScorer
from netinv_lightning.ood.detectors.scorer import Scorer
from netinv_lightning.ood.perturbation_results import DIRECTIONS
from netinv_lightning.ood.perturbation_study import (
    perturb,
    perturbation_study,
    radius,
)

SMALL = DataSpec("small", 3, 1, 16, (0.0,), (1.0,), ("a", "b", "c"))


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_classifier() -> FrozenClassifier:
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
    with torch.no_grad():
        network[1].weight.copy_(torch.randn(3, 256, generator=source(1)))
        network[1].bias.zero_()
    return FrozenClassifier(network, SMALL)


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
