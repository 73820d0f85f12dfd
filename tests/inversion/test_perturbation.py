"""Test that perturbations keep their norm bound and point in the intended direction.

Shape suffixes: B batch, N classes, C channels, H height, W width, P = C H W.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from netinv_lightning.classifiers.networks import MLP
from netinv_lightning.inversion.perturbation import DIRECTIONS, NORMS, Perturbation, norm, project

PROPERTY = settings(deadline=None, derandomize=True, max_examples=40)
PAIRS = [
    (kind, direction)
    for kind in NORMS
    for direction in DIRECTIONS
    if direction != "sign" or kind == "linf"
]
RADII = {"l1": 4.0, "l2": 0.8, "linf": 0.05}
ORDERS = {"l1": 1.0, "l2": 2.0, "linf": float("inf")}


def classifier_images_labels(batch: int = 16) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    classifier = MLP(4, 1, 8, widths=(16,)).eval()
    return classifier, torch.rand(batch, 1, 8, 8), torch.randint(4, (batch,))


def norms_of(delta_BCHW: Tensor, kind: str) -> Tensor:
    return torch.linalg.vector_norm(delta_BCHW.flatten(1), ORDERS[kind], dim=1)


@pytest.mark.parametrize("kind", NORMS)
def test_norm_is_the_vector_norm_of_each_row(kind: str) -> None:
    delta_BP = torch.tensor([[3.0, -4.0], [0.0, 0.5]])
    expected = {"l1": [7.0, 0.5], "l2": [5.0, 0.5], "linf": [4.0, 0.5]}[kind]
    assert norm(delta_BP, kind).tolist() == pytest.approx(expected)


# Projection onto the ball


@pytest.mark.parametrize(
    ("kind", "given_P", "expected_P"),
    [
        ("linf", [2.0, -0.5, 1.0], [1.0, -0.5, 1.0]),
        ("l2", [3.0, 0.0, -4.0], [0.6, 0.0, -0.8]),
        ("l1", [2.0, -1.5, 0.1], [0.75, -0.25, 0.0]),  # soft threshold at 1.25
        ("l1", [-5.0, 1.0, 0.0], [-1.0, 0.0, 0.0]),
        ("l1", [0.5, -0.5, 0.0], [0.5, -0.5, 0.0]),
    ],
)
def test_projection_onto_the_unit_ball_by_hand(
    kind: str, given_P: list[float], expected_P: list[float]
) -> None:
    torch.testing.assert_close(
        project(torch.tensor([given_P]), 1.0, kind), torch.tensor([expected_P])
    )


@PROPERTY
@given(
    kind=st.sampled_from(NORMS),
    size=st.integers(1, 6),
    radius=st.floats(0.1, 3),
    seed=st.integers(0, 10**6),
)
def test_projection_is_the_nearest_point(kind: str, size: int, radius: float, seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    delta_BP = 2 * torch.randn(5, size, dtype=torch.float64, generator=source)
    projected_BP = project(delta_BP, radius, kind)
    assert (norms_of(projected_BP, kind) <= radius * (1 + 1e-9)).all()
    torch.testing.assert_close(project(projected_BP, radius, kind), projected_BP)
    inside_B = norms_of(delta_BP, kind) <= radius
    assert torch.equal(projected_BP[inside_B], delta_BP[inside_B])
    # For the projection onto a convex ball, <delta - projected, any - projected> <= 0 holds for
    # every point `any` of the ball.
    any_QP = torch.randn(200, size, dtype=torch.float64, generator=source)
    any_QP = any_QP * (radius / norms_of(any_QP, kind))[:, None]
    products_BQ = ((delta_BP - projected_BP)[:, None] * (any_QP[None] - projected_BP[:, None])).sum(
        dim=2
    )
    assert (products_BQ <= 1e-9).all()


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("radius", [0.0, 1e-9])
def test_projection_onto_a_point(kind: str, radius: float) -> None:
    delta_BP = torch.tensor([[0.0, 0.0, 0.0], [1.0, -2.0, 2.0]])
    torch.testing.assert_close(
        project(delta_BP, radius, kind), torch.zeros(2, 3), rtol=0, atol=1e-8
    )


# Bounds


@pytest.mark.parametrize(("kind", "direction"), PAIRS)
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_perturbations_stay_within_the_bound(kind: str, direction: str, scale: float) -> None:
    classifier, x_BCHW, label_B = classifier_images_labels()
    radius = scale * RADII[kind]
    moved_BCHW = Perturbation(kind, radius, direction, clamp=False)(x_BCHW, label_B, classifier)
    assert moved_BCHW.shape == x_BCHW.shape
    norms_B = norms_of(moved_BCHW - x_BCHW, kind)
    assert (norms_B <= radius * (1 + 1e-4) + 1e-6).all()
    attained = (
        0.9 if kind == "linf" and direction == "random" else 0.99
    )  # uniform in the cube, so the largest of 64 draws is close to a face
    assert (norms_B >= attained * radius - 1e-6).all()


def test_random_directions_are_distributed_as_documented() -> None:
    torch.manual_seed(0)
    x_BCHW, label_B = torch.zeros(4000, 1, 2, 5), torch.zeros(4000, dtype=torch.long)

    def draw(kind: str, direction: str) -> Tensor:
        return Perturbation(kind, 0.5, direction, clamp=False)(
            x_BCHW, label_B, nn.Identity()
        ).flatten(1)

    uniform_BP, sign_BP, sphere_BP, diamond_BP = (
        draw("linf", "random"),
        draw("linf", "sign"),
        draw("l2", "random"),
        draw("l1", "random"),
    )
    for delta_BP in (uniform_BP, sign_BP, sphere_BP, diamond_BP):
        assert delta_BP.mean(dim=0).abs().max() < 0.04
    assert uniform_BP.abs().mean().item() == pytest.approx(0.25, abs=0.01)
    assert uniform_BP.square().mean().item() == pytest.approx(0.25 / 3, abs=0.005)
    assert torch.equal(sign_BP.abs(), torch.full_like(sign_BP, 0.5))
    assert sphere_BP.square().mean(dim=0).numpy() == pytest.approx(
        0.25 / 10, abs=0.002
    )  # uniform on the sphere, so r^2 / P per entry
    assert diamond_BP.abs().mean(dim=0).numpy() == pytest.approx(0.5 / 10, abs=0.003)
    assert diamond_BP.square().mean().item() == pytest.approx(
        0.25 * 2 / (10 * 11), abs=0.0004
    )  # uniform on the simplex, so 2 r^2 / P(P+1) per entry


@pytest.mark.parametrize(("kind", "direction"), PAIRS)
def test_clamp_keeps_pixels_in_range(kind: str, direction: str) -> None:
    classifier, _, label_B = classifier_images_labels()
    x_BCHW = (torch.rand(16, 1, 8, 8) > 0.5).float()
    free_BCHW = Perturbation(kind, RADII[kind], direction, clamp=False)(x_BCHW, label_B, classifier)
    kept_BCHW = Perturbation(kind, RADII[kind], direction)(x_BCHW, label_B, classifier)
    assert free_BCHW.min() < 0
    assert free_BCHW.max() > 1
    assert kept_BCHW.min() >= 0
    assert kept_BCHW.max() <= 1
    assert (norms_of(kept_BCHW - x_BCHW, kind) <= RADII[kind] * (1 + 1e-4)).all()


# Adversarial directions


@pytest.mark.parametrize("kind", NORMS)
def test_adversarial_raises_each_loss_more_than_random(kind: str) -> None:
    classifier, x_BCHW, label_B = classifier_images_labels(64)

    def loss_B(x_BCHW: Tensor) -> Tensor:
        return F.cross_entropy(classifier(x_BCHW), label_B, reduction="none")

    attacked_B, random_B = (
        loss_B(Perturbation(kind, RADII[kind], direction, clamp=False)(x_BCHW, label_B, classifier))
        for direction in ("adversarial", "random")
    )
    assert (attacked_B > random_B).all()
    assert (attacked_B > loss_B(x_BCHW)).all()


@pytest.mark.parametrize("kind", NORMS)
def test_adversarial_finds_the_worst_case_of_a_linear_classifier(kind: str) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(20, 2, bias=False)
    x_BCHW, label_B, radius = torch.rand(6, 1, 4, 5), torch.tensor([0, 1, 0, 1, 0, 1]), 0.3
    moved_BCHW = Perturbation(kind, radius, "adversarial", steps=20, clamp=False)(
        x_BCHW, label_B, lambda x: linear(x.flatten(1))
    )
    w_P = (
        linear.weight[1] - linear.weight[0]
    ).detach()  # the margin decreases by at most the radius times the dual norm of w
    dual = {"l1": w_P.abs().max(), "l2": w_P.norm(), "linf": w_P.abs().sum()}[kind]
    fall_B = (moved_BCHW - x_BCHW).flatten(1) @ w_P * torch.where(label_B == 0, 1, -1)
    assert (fall_B <= radius * dual * (1 + 1e-5)).all()
    assert (fall_B >= 0.95 * radius * dual).all()


def test_l1_attack_spends_its_radius_within_the_pixel_range() -> None:
    """Compare with the worst case of a linear score.

    The worst case changes the pixels with the largest weights, one after the other, each until it
    reaches the limit of [0, 1].
    """
    torch.manual_seed(0)
    x_BCHW, radius = torch.rand(4, 1, 6, 6), 5.0
    weight_P = torch.randn(36)

    # The logit of class 0 decreases as the score increases.
    def logits(x_BCHW: Tensor) -> Tensor:
        score_B = 0.1 * (x_BCHW.flatten(1) @ weight_P)
        return torch.stack([-score_B, score_B], dim=1)

    attack = Perturbation("l1", radius, "adversarial", steps=20)
    delta_BP = (attack(x_BCHW, torch.zeros(4, dtype=torch.long), logits) - x_BCHW).flatten(1)
    assert norm(delta_BP, "l1").max() <= radius + 1e-4
    for x_P, delta_P in zip(x_BCHW.flatten(1), delta_BP, strict=True):
        best, left = 0.0, radius
        for pixel in weight_P.abs().argsort(descending=True):
            room = float(1 - x_P[pixel] if weight_P[pixel] > 0 else x_P[pixel])
            best, left = (
                best + float(weight_P[pixel].abs()) * min(room, left),
                left - min(room, left),
            )
        assert float(delta_P @ weight_P) > 0.9 * best


def test_adversarial_does_not_change_the_classifier() -> None:
    classifier, x_BCHW, label_B = classifier_images_labels()
    with torch.no_grad():
        moved_BCHW = Perturbation("linf", 0.05, "adversarial")(x_BCHW, label_B, classifier)
        assert F.cross_entropy(classifier(moved_BCHW), label_B) > F.cross_entropy(
            classifier(x_BCHW), label_B
        )
    assert not moved_BCHW.requires_grad
    assert all(weight.grad is None for weight in classifier.parameters())


@pytest.mark.parametrize(("kind", "direction"), PAIRS)
@pytest.mark.parametrize("clamp", [False, True])
def test_gradients_pass_to_the_images_unchanged(kind: str, direction: str, clamp: bool) -> None:
    classifier, x_BCHW, label_B = classifier_images_labels()
    x_BCHW.requires_grad_()
    weight_BCHW = torch.randn_like(x_BCHW)
    moved_BCHW = Perturbation(kind, RADII[kind], direction, clamp=clamp)(
        x_BCHW, label_B, classifier
    )
    (gradient_BCHW,) = torch.autograd.grad((moved_BCHW * weight_BCHW).sum(), x_BCHW)
    free_BCHW = (
        (moved_BCHW > 0) & (moved_BCHW < 1)
        if clamp
        else torch.ones_like(moved_BCHW, dtype=torch.bool)
    )
    assert free_BCHW.float().mean() > 0.5
    torch.testing.assert_close(gradient_BCHW[free_BCHW], weight_BCHW[free_BCHW])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "l3"}, "norm=l3: choose from l1, l2, linf"),
        ({"direction": "up"}, "direction=up: choose from random, sign, adversarial"),
        ({"norm": "l2", "direction": "sign"}, "direction=sign: requires norm=linf, not l2"),
        ({"radius": -0.1}, "radius=-0.1: must be 0 or more"),
        ({"radius": float("nan")}, "radius=nan: must be 0 or more"),
        ({"steps": 0}, "steps=0: must be 1 or more"),
    ],
)
def test_invalid_values_name_their_key(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Perturbation(**arguments)
