"""Mathematics of the KKT attack: margins, gates, gradients and stationarity."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.log_odds import log_odds
from netinv_lightning.classifiers.networks import CNN, ViT
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.inversion import terms
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.stationarity import (
    SmoothGates,
    best_scale,
    check_twice_differentiable,
    margin_gradients,
    misalignment,
    stationarity,
)  # fmt: skip
from netinv_lightning.inversion.terms import Step
from netinv_lightning.training.gradient_steps import decayed_weights
from tests.inversion.methods.small_attacks import SPEC, frozen, small_mlp


def images_and_labels(n: int = 5) -> tuple[Tensor, Tensor]:
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(n) % 3


def test_both_losses_of_born_are_0_at_a_max_margin_solution() -> None:
    """Plant support vectors v and -v of a linear classifier; images beside them have a loss.

    The max-margin weights for the classes +v and -v are multiples of (v, -v), with equal
    multipliers, and both images have the margin 2 |v|^2 of these weights.
    """
    planted_BCHW = torch.linspace(-1, 1, 16).view(1, 1, 4, 4)
    planted_BCHW = torch.cat([planted_BCHW, -planted_BCHW])
    linear = nn.Linear(16, 2, bias=False)
    linear.weight.data = planted_BCHW.flatten(1).clone()
    spec = DataSpec("made_up", 2, 1, 4, (0.0,), (1.0,), ("a", "b"))
    classifier = frozen(nn.Sequential(nn.Flatten(), linear), spec)
    level = 2 * float(planted_BCHW[0].square().sum())

    def value(x_BCHW: Tensor) -> list[float]:
        condition = Conditioning(2, 4, "label").of_labels(torch.tensor([0, 1]))
        step = Step(x_BCHW, condition, classifier(x_BCHW), {}, classifier)
        return [float(v.detach()) for v in (terms.stationarity(step), terms.duality(step, level))]

    assert value(planted_BCHW) == pytest.approx([0, 0], abs=1e-6)
    longer, turned = value(1.5 * planted_BCHW), value(planted_BCHW.flip(3))
    assert longer == pytest.approx([0, 0.25], abs=1e-6)
    assert turned[0] > 0.1


def test_margin_and_its_gradient_agree_with_cross_entropy() -> None:
    """Test -d CE = (1 - p_y) d m: the multipliers of cross-entropy are the error probabilities."""
    logits_BN = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]], requires_grad=True)
    label_B = torch.tensor([0, 1])
    m_B = log_odds(logits_BN, label_B)
    torch.testing.assert_close(
        m_B[0], torch.tensor(2.0) - torch.tensor([1.0, 0.0]).exp().sum().log()
    )
    p_B = logits_BN.softmax(dim=1)[[0, 1], label_B]
    torch.testing.assert_close(m_B.sigmoid(), p_B)
    (of_margins,) = torch.autograd.grad(((1 - p_B.detach()) * m_B).sum(), logits_BN)
    (of_loss,) = torch.autograd.grad(
        F.cross_entropy(logits_BN, label_B, reduction="sum"), logits_BN
    )
    torch.testing.assert_close(of_margins, -of_loss)


def test_a_linear_classifier_of_its_images_is_stationary() -> None:
    """Test a classifier of two classes with theta_y = sum_i +-lambda_i x_i, in normalised pixels.

    The term is 0 for these images and multipliers, and positive for others.
    """
    spec = DataSpec("two", 2, 1, 4, (0.2,), (0.5,), ("a", "b"))
    x_BCHW, label_B, multiplier_B = (
        images_and_labels(4)[0],
        torch.tensor([0, 1, 0, 1]),
        torch.tensor([0.5, 1.0, 2.0, 0.25]),
    )
    sign_BN = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])[label_B]
    weight_NP = (multiplier_B[:, None] * sign_BN).T @ ((x_BCHW - 0.2) / 0.5).flatten(1)
    linear = nn.Linear(16, 2, bias=False)
    with torch.no_grad():
        linear.weight.copy_(weight_NP)
    classifier = frozen(nn.Sequential(nn.Flatten(), linear), spec)
    weights = decayed_weights(classifier)

    def value(x_BCHW: Tensor, multiplier_B: Tensor) -> Tensor:
        return stationarity(weights, margin_gradients(classifier, x_BCHW, label_B, multiplier_B)[0])

    assert value(x_BCHW, multiplier_B).item() == pytest.approx(0, abs=1e-10)
    assert value(x_BCHW, 0 * multiplier_B).item() == pytest.approx(1)
    # |theta - 3 theta|^2 / |theta|^2
    assert value(x_BCHW, 3 * multiplier_B).item() == pytest.approx(4, rel=1e-5)
    assert value(x_BCHW.roll(1, 0), multiplier_B).item() > 0.01
    gradients, logits_BN = margin_gradients(classifier, x_BCHW, label_B, 3 * multiplier_B)
    assert misalignment(weights, gradients).item() == pytest.approx(0, abs=1e-6)
    assert best_scale(weights, gradients).item() == pytest.approx(1 / 3, rel=1e-5)
    away = {name: -gradient for name, gradient in gradients.items()}
    assert misalignment(weights, away).item() == pytest.approx(2, abs=1e-6)
    assert best_scale(weights, away).item() == 0
    torch.testing.assert_close(logits_BN, classifier(x_BCHW))


@pytest.mark.parametrize("kind", ["mlp", "cnn", "vit"])
def test_second_derivatives_equal_finite_differences(kind: str) -> None:
    torch.manual_seed(0)
    spec = DataSpec("larger", 3, 1, 8, (0.2,), (0.5,), ("a", "b", "c"))
    made: dict[str, Callable[[], nn.Module]] = {
        "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 3)),
        "cnn": lambda: CNN(3, 1, 8, stages=((3,),), hidden=4, pool="avg"),
        "vit": lambda: ViT(3, 1, 8, dim=8, depth=1, heads=2, stem=0),
    }
    classifier = frozen(made[kind](), spec).double()
    x_BCHW = torch.rand(4, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    log_B = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    weights = decayed_weights(classifier)

    def both(x_BCHW: Tensor, log_B: Tensor) -> Tensor:
        # There are no smooth gates here. Their derivative is not the derivative of their values,
        # so finite differences would give another result.
        gradients, _ = margin_gradients(classifier, x_BCHW, torch.tensor([0, 1, 2, 0]), log_B.exp())
        return torch.stack([stationarity(weights, gradients), misalignment(weights, gradients)])

    assert torch.autograd.gradcheck(both, (x_BCHW, log_B), fast_mode=True)


@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize("inplace", [False, True])
def test_smooth_gates_keep_values_and_smooth_the_gradient(slope: float, inplace: bool) -> None:
    layer = nn.LeakyReLU(slope, inplace) if slope else nn.ReLU(inplace)
    x = torch.tensor([-3.0, -0.1, 0.0, 0.1, 3.0], requires_grad=True)
    with SmoothGates(10.0):
        y = layer(x)
    torch.testing.assert_close(y, F.leaky_relu(x, slope))
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    gate = (10 * x).sigmoid()
    torch.testing.assert_close(first, slope + (1 - slope) * gate)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(second, (1 - slope) * 10 * gate * (1 - gate), rtol=1e-4, atol=1e-6)


def test_without_sharpness_the_gradients_are_those_of_autograd() -> None:
    x_BCHW, label_B = images_and_labels()
    classifier, multiplier_B = frozen(small_mlp()), torch.linspace(0.5, 2, 5)
    gradients, _ = margin_gradients(classifier, x_BCHW, label_B, multiplier_B)
    classifier.requires_grad_(True)
    names_of = [name for name, weight in classifier.named_parameters() if weight.ndim > 1]
    total = (multiplier_B * log_odds(classifier(x_BCHW), label_B)).sum()
    expected = torch.autograd.grad(total, [classifier.get_parameter(name) for name in names_of])
    assert list(gradients) == names_of
    for name, gradient in zip(names_of, expected, strict=True):
        torch.testing.assert_close(gradients[name], gradient)


def test_weights_after_weight_decay_are_a_sum_of_gradients() -> None:
    """Test wd n theta = sum_i (1 - p_i) d m_i at a stationary point of training.

    The attack relies on this equation. It holds without BatchNorm and for decayed weights, not for
    biases.
    """
    x_BCHW, label_B = images_and_labels(6)
    classifier = frozen(
        nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3, bias=False))
    )
    classifier.requires_grad_(True)
    decayed = [weight for weight in classifier.parameters() if weight.ndim > 1]
    optimizer = torch.optim.LBFGS(
        classifier.parameters(), max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(classifier(x_BCHW), label_B) + 0.01 / 2 * sum(
            weight.square().sum() for weight in decayed
        )
        value.backward()
        return value

    optimizer.step(loss)  # type: ignore[arg-type]
    with torch.no_grad():
        error_B = 1 - classifier(x_BCHW).softmax(dim=1)[torch.arange(6), label_B]
    weights = decayed_weights(classifier)
    of_training, _ = margin_gradients(classifier, x_BCHW, label_B, error_B / (0.01 * 6))
    of_others, _ = margin_gradients(classifier, x_BCHW.flip(3), label_B, error_B / (0.01 * 6))
    assert stationarity(weights, of_training).item() < 1e-4
    assert stationarity(weights, of_others).item() > 0.05


def test_an_mlp_without_batch_norm_is_homogeneous() -> None:
    """With three layers and a bias in the first, doubling the weights multiplies logits by 8."""
    network = small_mlp(slope=0.1)
    assert [name for name, _ in network.named_parameters() if name.endswith("bias")] == [
        "hidden.1.bias"
    ]
    x_BCHW, _ = images_and_labels()
    before = network(x_BCHW)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(2)
    torch.testing.assert_close(network(x_BCHW), 8 * before)


# Networks that cannot be differentiated twice


def test_in_place_layers_are_refused_without_second_derivative() -> None:
    def of(*layers: nn.Module) -> FrozenClassifier:
        return frozen(nn.Sequential(nn.Flatten(), nn.Linear(16, 8), *layers, nn.Linear(8, 3)))

    check_twice_differentiable(of(nn.ReLU(inplace=True)), "loss.gradient")
    message = (
        r"^loss.gradient: the classifier's network has no second derivative \(.*\); "
        r"set inplace=False in its 3$"
    )
    with pytest.raises(InputError, match=message):
        check_twice_differentiable(of(nn.Sigmoid(), nn.ReLU(inplace=True)), "loss.gradient")
    with pytest.raises(
        InputError,
        match=r"^method=kkt: .*hardsigmoid.*choose another layer there, or leave it out$",
    ):
        check_twice_differentiable(of(nn.Hardsigmoid()), "method=kkt")


def test_a_network_without_weights_is_refused() -> None:
    class Sums(nn.Module):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            return x_BCHW.flatten(1)[:, :3]

    classifier = FrozenClassifier(Sums(), SPEC, feature_layers=())
    with pytest.raises(
        InputError,
        match=r"^loss.stationarity: .*has no trainable matrix or kernel; leave it out$",
    ):
        check_twice_differentiable(classifier, "loss.stationarity")
    # Two forward passes of the construction; the check is not counted.
    assert (classifier.forward_count.forwards, classifier.forward_count.backwards) == (
        2,
        0,
    )
