"""Compare the terms of the objective with closed forms and naive sums.

Shape suffixes: B batch, N classes, D features, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from netinv_lightning.classifiers.networks import CNN, MLP, ResNet, ViT
from netinv_lightning.inversion import losses

PROPERTY = settings(deadline=None, derandomize=True, max_examples=30)
SHAPES = [(6, 3), (6, 6), (6, 11), (2, 1)]  # B x D with D < B, D = B, D > B


def features(batch: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, dim, generator=torch.Generator().manual_seed(seed))


# L_KL, L_CE


def test_kl_is_from_p_to_q_and_not_from_q_to_p() -> None:
    p_BN, q_BN = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.25, 0.25, 0.5]])
    p2_BN, q2_BN = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.5, 0.5]])
    assert losses.kl_divergence(p_BN, q_BN.log()).item() == pytest.approx(
        0.25 * math.log(2), abs=1e-6
    )  # 0.5 log 2 + 0 - 0.25 log 2
    forward = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)  # 0.368
    backward = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)  # 0.511
    assert losses.kl_divergence(p2_BN, q2_BN.log()).item() == pytest.approx(forward, abs=1e-6)
    assert losses.kl_divergence(q2_BN, p2_BN.log()).item() == pytest.approx(backward, abs=1e-6)


def test_kl_takes_a_one_hot_target_and_averages_over_the_batch() -> None:
    p_BN = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    logits_BN = torch.tensor([[0.0, math.log(3)], [7.0, 7.0]])  # Q = (1/4, 3/4), (1/2, 1/2)
    assert losses.kl_divergence(p_BN, logits_BN).item() == pytest.approx(math.log(4) / 2, abs=1e-6)


@PROPERTY
@given(classes=st.integers(2, 30), seed=st.integers(0, 10**6), shift=st.floats(-5, 5))
def test_kl_is_zero_only_if_q_equals_p(classes: int, seed: int, shift: float) -> None:
    own_BN, other_BN = features(4, classes, seed).double(), features(4, classes, seed + 1).double()
    p_BN = own_BN.softmax(dim=1)
    assert losses.kl_divergence(p_BN, own_BN + shift).item() == pytest.approx(0, abs=1e-12)
    assert losses.kl_divergence(p_BN, other_BN).item() > 1e-4


@pytest.mark.parametrize(
    ("hot", "floor"), [(False, 0.207), (True, math.log(math.e + 9) - 1)]
)  # the second value is 1.461
def test_double_softmax_cannot_reach_the_target(hot: bool, floor: float) -> None:
    p_BN = torch.eye(10) if hot else features(2000, 10).softmax(dim=1)
    logits_BN = (3 * p_BN if hot else p_BN.log()).requires_grad_()
    for _ in range(200):  # gradient descent on the logits
        (slope_BN,) = torch.autograd.grad(
            losses.kl_divergence(p_BN, logits_BN, double_softmax=True) * len(p_BN), logits_BN
        )
        logits_BN = (logits_BN - 30 * slope_BN).detach().requires_grad_()
    assert losses.kl_divergence(p_BN, logits_BN, double_softmax=True).item() == pytest.approx(
        floor, abs=0.004
    )
    if not hot:
        assert losses.kl_divergence(p_BN, p_BN.log()).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_torch_and_the_formula(smoothing: float) -> None:
    logits_BN, label_B = features(5, 4), torch.tensor([0, 3, 1, 1, 2])
    y_BN = F.one_hot(label_B, 4) * (1 - smoothing) + smoothing / 4
    value = losses.cross_entropy(logits_BN, label_B, smoothing)
    torch.testing.assert_close(value, -(y_BN * logits_BN.log_softmax(dim=1)).sum(dim=1).mean())
    torch.testing.assert_close(
        value, F.cross_entropy(logits_BN, label_B, label_smoothing=smoothing)
    )


# L_Cosine, L_Ortho


def naive_cosine(f_BD: Tensor, absolute: bool) -> float:
    B = len(f_BD)
    pairs = [
        F.cosine_similarity(f_BD[i], f_BD[j], dim=0).item()
        for i in range(B)
        for j in range(B)
        if i != j
    ]
    return sum(map(abs, pairs)) / B**2 if absolute else sum(pairs) / (B * (B - 1))


@pytest.mark.parametrize(("batch", "dim"), SHAPES)
@pytest.mark.parametrize("absolute", [False, True])
def test_cosine_equals_the_naive_double_sum(batch: int, dim: int, absolute: bool) -> None:
    f_BD = features(batch, dim)
    assert losses.cosine_similarity(f_BD, absolute).item() == pytest.approx(
        naive_cosine(f_BD, absolute), abs=1e-6
    )


def test_cosine_by_hand() -> None:
    identical_BD = torch.tensor([[3.0, 4.0]]).repeat(5, 1) * torch.arange(1, 6)[:, None]
    mixed_BD = torch.tensor(
        [[1.0, 0.0], [-2.0, 0.0], [0.0, 5.0]]
    )  # of six ordered pairs, two have cosine -1 and four have 0
    assert losses.cosine_similarity(identical_BD).item() == pytest.approx(1, abs=1e-6)
    assert losses.cosine_similarity(identical_BD, absolute=True).item() == pytest.approx(
        20 / 25, abs=1e-6
    )
    assert losses.cosine_similarity(torch.eye(4)).item() == pytest.approx(0, abs=1e-6)
    assert losses.cosine_similarity(mixed_BD).item() == pytest.approx(-2 / 6, abs=1e-6)
    assert losses.cosine_similarity(mixed_BD, absolute=True).item() == pytest.approx(
        2 / 9, abs=1e-6
    )


def test_cosine_with_a_zero_feature_is_zero() -> None:
    f_BD = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    assert losses.cosine_similarity(f_BD).item() == pytest.approx(2 / 6, abs=1e-6)


@pytest.mark.parametrize(("batch", "dim"), SHAPES)
@pytest.mark.parametrize("normalize", [True, False])
def test_orthogonality_equals_the_naive_gram_matrix(batch: int, dim: int, normalize: bool) -> None:
    f_BD = features(batch, dim)
    rows_BD = f_BD / f_BD.norm(dim=1, keepdim=True) if normalize else f_BD
    expected = (
        sum(
            ((rows_BD[i] @ rows_BD[j]).item() - (i == j)) ** 2
            for i in range(batch)
            for j in range(batch)
        )
        / batch**2
    )
    assert losses.orthogonality(f_BD, normalize).item() == pytest.approx(
        expected, rel=1e-5, abs=1e-6
    )


def test_orthogonality_by_hand() -> None:
    assert losses.orthogonality(torch.eye(3, 5)).item() == pytest.approx(0, abs=1e-6)
    assert losses.orthogonality(3 * torch.eye(3, 5)).item() == pytest.approx(0, abs=1e-6)
    assert losses.orthogonality(3 * torch.eye(3, 5), normalize=False).item() == pytest.approx(
        3 * 8**2 / 9, rel=1e-6
    )
    assert losses.orthogonality(torch.ones(3, 5)).item() == pytest.approx(
        6 / 9, rel=1e-6
    )  # identical rows: all off-diagonal entries are 1


@PROPERTY
@given(dim=st.integers(1, 12), bases=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_stacked_bases_reach_the_minimum_of_orthogonality(dim: int, bases: int, seed: int) -> None:
    frame_BD = torch.cat([torch.linalg.qr(features(dim, dim, seed + k))[0] for k in range(bases)])
    floor = losses.orthogonality_floor(len(frame_BD), dim)
    assert floor == pytest.approx(1 / dim - 1 / (dim * bases))
    assert losses.orthogonality(frame_BD).item() == pytest.approx(floor, abs=1e-5)
    assert losses.orthogonality(features(dim * bases, dim, seed)).item() >= floor - 1e-6
    assert losses.orthogonality_floor(dim, dim + 1) == 0


# L_Var, L_Pix


def test_variation_of_step_images() -> None:
    x_BCHW = torch.zeros(2, 2, 3, 4)
    x_BCHW[0, 0, :, 2:] = 1.0  # three rows cross a step of 1 once: 3
    x_BCHW[1, 1, 1:, :] = 0.5  # four columns cross a step of 0.5 once: 1
    assert losses.variation(x_BCHW).item() == pytest.approx((3 + 1) / 2)
    checkered_HW = torch.tensor(
        [[1.0, 0.0], [0.0, 1.0]]
    )  # two horizontal and two vertical pairs, each with difference 1
    assert losses.variation(checkered_HW[None, None]).item() == pytest.approx(4)
    assert losses.variation(torch.full((2, 1, 5, 5), 0.7)).item() == 0


def test_pixel_range_sums_the_distances_to_the_range() -> None:
    x_BCHW = torch.tensor([[[[-0.5, 0.0], [1.0, 1.25]]], [[[0.5, -2.0], [3.0, 0.999]]]])
    assert losses.pixel_range(x_BCHW).item() == pytest.approx(0.5 + 0.25 + 2 + 2)
    assert losses.pixel_range(torch.rand(3, 1, 4, 4)).item() == 0


# L_Grad


class Fused(nn.Module):
    """User-defined transformer with torch's LayerNorm and fused attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Conv2d(1, 6, 4, stride=4), nn.Linear(6, 3)
        self.block = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.head(self.block(self.embed(x_BCHW).flatten(2).transpose(1, 2)).mean(dim=1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "cnn": lambda: CNN(3, 1, 8, stages=((2,), (3,)), hidden=4),
    "cnn_avg": lambda: CNN(3, 1, 8, stages=((2,),), hidden=4, pool="avg"),
    "mlp": lambda: MLP(3, 1, 8, widths=(5,)),
    "resnet": lambda: ResNet(3, 1, 8, widths=(2, 3)),
    "vit": lambda: ViT(3, 1, 8, dim=6, depth=2, heads=2, stem=2, dropout=0.1),
    "fused": Fused,
}


def network_images_labels(kind: str) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    network = NETWORKS[kind]().double().eval()
    return network, torch.rand(4, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 2, 1, 1])


@pytest.mark.parametrize("bias", [False, True])
def test_gradient_norm_of_a_linear_classifier_by_closed_form(bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(12, 5, bias=bias)
    x_BCHW, label_B = torch.rand(6, 3, 2, 2), torch.tensor([0, 1, 2, 3, 4, 0])
    error_BN = linear(x_BCHW.flatten(1)).softmax(dim=1) - F.one_hot(
        label_B, 5
    )  # dL/dW = (softmax(z) - y) x', and dL/db without x'
    expected = (error_BN.norm(dim=1) * (x_BCHW.flatten(1).square().sum(dim=1) + bias).sqrt()).mean()
    torch.testing.assert_close(
        losses.gradient_norm(nn.Sequential(nn.Flatten(), linear), x_BCHW, label_B), expected
    )


@pytest.mark.parametrize("kind", NETWORKS)
def test_gradient_norm_equals_autograd(kind: str) -> None:
    network, x_BCHW, label_B = network_images_labels(kind)

    def norm_of(x_BCHW: Tensor, label_B: Tensor) -> Tensor:
        gradients = torch.autograd.grad(
            F.cross_entropy(network(x_BCHW), label_B), list(network.parameters())
        )
        return torch.cat([g.flatten() for g in gradients]).norm()

    per_image_B = torch.stack([norm_of(x_BCHW[i : i + 1], label_B[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(losses.gradient_norm(network, x_BCHW, label_B), per_image_B.mean())
    torch.testing.assert_close(
        losses.gradient_norm(network, x_BCHW, label_B, per_image=False), norm_of(x_BCHW, label_B)
    )
    assert (
        norm_of(x_BCHW, label_B) < 0.99 * per_image_B.mean()
    )  # the two differ because gradients of different images cancel


@pytest.mark.parametrize("per_image", [True, False])
@pytest.mark.parametrize("kind", NETWORKS)
def test_gradient_norm_is_differentiable_by_the_images(kind: str, per_image: bool) -> None:
    network, x_BCHW, label_B = network_images_labels(kind)
    assert torch.autograd.gradcheck(
        lambda x_BCHW: losses.gradient_norm(network, x_BCHW, label_B, per_image),
        x_BCHW.requires_grad_(),
        fast_mode=True,
    )


@pytest.mark.parametrize("per_image", [True, False])
def test_gradient_norm_leaves_the_classifier_unchanged(per_image: bool) -> None:
    network, x_BCHW, label_B = network_images_labels("cnn")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    losses.gradient_norm(network, x_BCHW.requires_grad_(), label_B, per_image).backward()
    assert x_BCHW.grad is not None
    assert x_BCHW.grad.abs().max() > 0
    assert all(weight.grad is None and weight.requires_grad for weight in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("per_image", [True, False])
def test_gradient_norm_has_a_finite_derivative_at_zero(per_image: bool) -> None:
    x_BCHW = torch.zeros(
        2, 1, 2, 2, requires_grad=True
    )  # without a bias, the gradient of a black image is 0
    value = losses.gradient_norm(
        nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False)),
        x_BCHW,
        torch.tensor([0, 1]),
        per_image,
    )
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-5)
    assert x_BCHW.grad is not None
    assert x_BCHW.grad.isfinite().all()
