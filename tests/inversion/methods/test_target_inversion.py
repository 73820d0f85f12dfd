"""Targets other than classes: distances by hand, and what a linear network reaches.

Shape suffixes: n images, t targets, N classes, D features, P pixels, C channels, H height, W width.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.inversion.methods.approach import TargetInversion
from netinv_lightning.inversion.methods.gradient import PixelInversion
from netinv_lightning.inversion.methods.targets import (
    Distributions,
    Neurons,
    Targets,
    Vectors,
    likeness,
    read_images,
    spread,
)
from netinv_lightning.training.schedules import cosine_share
from tests.applications.approach_runs import noise_of

SIDE = 8
SPEC = DataSpec("made_up", 3, 1, SIDE, (0.0,), (1.0,), ("a", "b", "c"))


@pytest.fixture(scope="module")
def linear() -> FrozenClassifier:
    """Return the classifier logits = W image."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 3, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(noise_of(3, SIDE**2, seed=1) - 0.5)
    return FrozenClassifier(network, SPEC, ["1"])


def approached(
    targets: Targets, classifier: FrozenClassifier, images: int = 3, steps: int = 150, seed: int = 0
) -> tuple[Tensor, Tensor]:
    return TargetInversion(classifier, {}, steps=steps).approach(targets, images, seed)


# Errors by hand


def test_distances_of_distributions_by_hand() -> None:
    targets, row_n = (
        Distributions(torch.tensor([[0.5, 0.5, 0.0]])),
        torch.zeros(2, dtype=torch.long),
    )
    logits_nN = torch.tensor([[0.25, 0.5, 0.25], [0.5, 0.5, 1e-30]]).log()
    expected = [0.5 * math.log(2), 0.0]
    torch.testing.assert_close(
        targets.error(logits_nN, row_n), torch.tensor(expected), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(
        targets.loss(logits_nN, row_n), torch.tensor(expected).sqrt(), rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(
        targets.total_variation(logits_nN, row_n), torch.tensor([0.25, 0.0]), rtol=1e-5, atol=1e-6
    )


def test_distances_of_vectors_by_hand() -> None:
    targets = Vectors(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
    read_nD, row_n = torch.tensor([[3.0, 3.0], [0.0, 2.0], [3.0, 4.0]]), torch.tensor([0, 1, 1])
    expected = torch.tensor([1 / 5, 0.0, math.sqrt(13) / 2])
    torch.testing.assert_close(targets.error(read_nD, row_n), expected)
    torch.testing.assert_close(targets.loss(read_nD, row_n), expected, rtol=1e-5, atol=1e-5)
    assert targets.unrelated() == pytest.approx((math.sqrt(13) / 5 + math.sqrt(13) / 2) / 2)
    assert math.isnan(Vectors(torch.ones(1, 2)).unrelated())


def test_units_are_read_from_their_layer() -> None:
    features = {"layer": torch.arange(6.0).view(2, 3)}
    row_n = torch.tensor([0, 1])
    targets = Neurons(torch.tensor([2, 0]), 1.0, "layer")
    read_nD = targets.read(torch.zeros(2, 1), features, row_n)
    assert read_nD.tolist() == [[2.0], [3.0]]
    assert (
        targets.error(read_nD, row_n).tolist()
        == targets.loss(read_nD, row_n).tolist()
        == [1.0, 2.0]
    )
    high = Neurons(torch.tensor([2, 0]), None, "layer")
    assert high.loss(read_nD, row_n).tolist() == [-2.0, -3.0]
    assert high.error(read_nD, row_n).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "targets",
    [Distributions(torch.tensor([[0.2, 0.3, 0.5]])), Vectors(torch.tensor([[0.2, 0.3, 0.5]]))],
)
def test_the_gradient_at_the_target_is_finite(targets: Targets) -> None:
    at_target = (
        targets.rows_tD.log() if isinstance(targets, Distributions) else targets.rows_tD.clone()
    )
    at_target.requires_grad_()
    (gradient,) = torch.autograd.grad(
        targets.loss(at_target, torch.zeros(1, dtype=torch.long)).sum(), at_target
    )
    assert gradient.isfinite().all()


def test_a_neurons_distribution_is_that_of_its_units(linear: FrozenClassifier) -> None:
    x_nCHW = noise_of(300, 1, SIDE, SIDE)
    activation_nN = linear(x_nCHW)
    metrics = Neurons(torch.tensor([0, 2]), None, "1").distribution("noise", x_nCHW, linear)
    assert metrics[names.activation("noise", "mean")] == pytest.approx(
        float(activation_nN[:, [0, 2]].mean()), rel=1e-4
    )
    expected = activation_nN[:, [0, 2]].quantile(0.99, dim=0).mean()
    assert metrics[names.activation("noise", "p99")] == pytest.approx(float(expected), rel=1e-4)


def test_likeness_and_spread_by_hand() -> None:
    original_tCHW = torch.stack([torch.zeros(1, 28, 28), noise_of(1, 28, 28)])
    x_nCHW, row_n = original_tCHW.repeat_interleave(2, dim=0), torch.tensor([0, 0, 1, 1])
    same = likeness(x_nCHW, row_n, original_tCHW)
    apart = float(original_tCHW[1].square().mean().sqrt())
    assert same[names.TARGET_RMSE] == 0
    assert same[names.TARGET_SSIM] == pytest.approx(1)
    assert same[names.TARGET_RMSE_UNRELATED] == pytest.approx(apart, rel=1e-5)
    assert same[names.TARGET_SSIM_UNRELATED] < 0.1
    assert names.TARGET_RMSE_UNRELATED not in likeness(x_nCHW[:2], row_n[:2], original_tCHW[:1])
    assert spread(x_nCHW, 2) == 0
    assert spread(original_tCHW, 1) == pytest.approx(apart, rel=1e-5)
    assert math.isnan(spread(original_tCHW, 2))


# Reachable targets


def test_logits_of_a_linear_network_are_reached(linear: FrozenClassifier) -> None:
    """The targets are logits of images, so a solution exists. Each target has its own images."""
    targets = Vectors(linear(noise_of(4, 1, SIDE, SIDE)))
    x_nCHW, row_n = approached(targets, linear)
    assert row_n.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert 0 <= float(x_nCHW.min()) <= float(x_nCHW.max()) <= 1
    error_n = read_images(x_nCHW, row_n, targets, linear).error_n
    assert float(error_n.max()) < 0.02
    assert float(read_images(x_nCHW, row_n.flip(0), targets, linear).error_n.mean()) > 0.3
    assert spread(x_nCHW, 4) > 0.1  # many images have the same logits


def test_a_unit_reaches_the_highest_value_that_pixels_allow(linear: FrozenClassifier) -> None:
    """The highest value of a linear unit is the sum of its positive weights."""
    targets = Neurons(torch.tensor([1]), None, "1")
    x_nCHW, row_n = approached(targets, linear)
    weight_NP = linear.network[1].weight  # type: ignore[index]
    highest = float(weight_NP[1].clamp_min(0).sum())
    reached_n = read_images(x_nCHW, row_n, targets, linear).value_nD[:, 0]
    assert 0.97 * highest < float(reached_n.min()) <= float(reached_n.max()) <= highest * (1 + 1e-6)


def test_a_unit_reaches_a_value(linear: FrozenClassifier) -> None:
    targets = Neurons(torch.tensor([0, 2]), 0.7, "1")
    x_nCHW, row_n = approached(targets, linear)
    torch.testing.assert_close(
        read_images(x_nCHW, row_n, targets, linear).value_nD,
        torch.full((6, 1), 0.7),
        rtol=0,
        atol=0.02,
    )


def test_images_of_a_target_do_not_depend_on_other_targets(linear: FrozenClassifier) -> None:
    """The objective is a mean over images, and no term compares them.

    The starting points are drawn in order for the whole batch.
    """
    rows_tD = linear(noise_of(4, 1, SIDE, SIDE))
    both, _ = approached(Vectors(rows_tD[:2]), linear, steps=5)
    alone, _ = approached(Vectors(rows_tD[:1]), linear, steps=5)
    torch.testing.assert_close(both[:3], alone, rtol=1e-3, atol=1e-4)


def test_equal_seeds_give_equal_results(linear: FrozenClassifier) -> None:
    targets = Vectors(linear(noise_of(2, 1, SIDE, SIDE)))
    state = torch.random.get_rng_state()
    first, _ = approached(targets, linear, steps=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(approached(targets, linear, steps=4)[0], first)
    assert not torch.equal(approached(targets, linear, steps=4, seed=1)[0], first)
    assert not torch.equal(first[0], first[1])


def test_a_single_image_of_a_single_target(linear: FrozenClassifier) -> None:
    x_nCHW, row_n = approached(
        Vectors(linear(noise_of(1, 1, SIDE, SIDE))), linear, images=1, steps=2
    )
    assert x_nCHW.shape == (1, 1, SIDE, SIDE)
    assert row_n.tolist() == [0]


def test_targets_are_not_divided_between_batches(linear: FrozenClassifier) -> None:
    targets = Vectors(linear(noise_of(3, 1, SIDE, SIDE)))
    inversion = TargetInversion(linear, {}, steps=1)
    x_nCHW, row_n = inversion.approach(targets, 101, 0)  # two targets fit into a batch of 250
    assert (inversion.batches, len(x_nCHW)) == (2, 303)
    assert row_n.bincount().tolist() == [101, 101, 101]


def test_the_learning_rate_falls_along_a_cosine() -> None:
    shares = [cosine_share(math.pi * step / 100, TargetInversion.final_lr) for step in range(101)]
    assert shares[0] == 1
    assert shares[50] == pytest.approx((1 + TargetInversion.final_lr) / 2)
    assert shares[100] == pytest.approx(TargetInversion.final_lr)
    assert PixelInversion.final_lr == 1  # for class targets the rate is constant


def test_a_prior_makes_images_smoother(linear: FrozenClassifier) -> None:
    targets = Vectors(linear(noise_of(2, 1, SIDE, SIDE)))

    def roughness(priors: dict[str, dict[str, float]]) -> float:
        x_nCHW, _ = TargetInversion(linear, priors, steps=60).approach(targets, 3, 0)
        return float((x_nCHW[..., 1:] - x_nCHW[..., :-1]).square().sum())

    assert roughness({"variation": {"weight": 0.1}}) < 0.7 * roughness({})
