"""Values computed from a network's outputs are float32 under bfloat16 autocast."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.inversion import losses
from netinv_lightning.inversion.build import make_module
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.inversion.stationarity import margin_gradients
from netinv_lightning.inversion.terms import Step
from netinv_lightning.training.float32 import in_float32
from tests.conftest import FEW_STEPS
from tests.inversion.precision_cases import NETWORKS, SPEC, ConvNet, bfloat16, network, seeded

PRESETS = ("inversion", "natural", "reconstruction", "reference")
"""Presets whose terms include those of all other presets."""


LABELS = torch.arange(6) % 3
TERMS: dict[str, Callable[[Tensor], Tensor]] = {
    "kl": lambda f: losses.kl_divergence(F.one_hot(LABELS, 16).float(), f),
    "kl, double softmax": lambda f: losses.kl_divergence(
        F.one_hot(LABELS, 16).float(), f, double_softmax=True
    ),
    "ce": lambda f: losses.cross_entropy(f, LABELS),
    "cosine": losses.cosine_similarity,
    "cosine, absolute": lambda f: losses.cosine_similarity(f, absolute=True),
    "orthogonality": losses.orthogonality,
    "orthogonality, D < B": lambda f: losses.orthogonality(f[:, :4]),
    "statistics": lambda f: losses.statistics_distance(f, torch.zeros(16), torch.ones(16)),
    "class spread": lambda f: losses.class_spread(f.view(6, 1, 4, 4), LABELS, distance=5.0, pool=1),
    "variation": lambda f: losses.variation(f.view(6, 1, 4, 4)),
    "pixel": lambda f: losses.pixel_range(f.view(6, 1, 4, 4)),
    "spectrum": lambda f: losses.power_law_distance(f.view(6, 1, 4, 4)),
    "patch similarity": lambda f: losses.similarity_divergence(f.view(6, 4, 4)),
}
"""Terms by name, on 16 numbers per image."""


@pytest.mark.parametrize("term", TERMS)
def test_terms_are_float32_under_autocast(term: str) -> None:
    """Autocast changes neither value nor gradient; half-precision input is cast to float32."""
    f_BD = (3 * seeded(6, 16) - 1).requires_grad_()
    plain = TERMS[term](f_BD)
    (plain_gradient,) = torch.autograd.grad(plain, f_BD)
    with bfloat16():
        value = TERMS[term](f_BD)
        of_half = TERMS[term](f_BD.detach().bfloat16())
    (gradient,) = torch.autograd.grad(value, f_BD)
    assert torch.equal(value, plain)
    assert torch.equal(gradient, plain_gradient)
    assert of_half.dtype == torch.float32
    assert torch.equal(of_half, TERMS[term](f_BD.detach().bfloat16().float()))


def test_in_float32_restores_autocast_and_keeps_float64() -> None:
    with bfloat16():
        assert in_float32(torch.mm)(torch.eye(2), torch.eye(2)).dtype == torch.float32
        assert (torch.eye(2) @ torch.eye(2)).dtype == torch.bfloat16
    assert in_float32(torch.mm)(torch.eye(2).double(), torch.eye(2).double()).dtype == torch.float64


def product(step: Step) -> Tensor:
    """A user-defined term with a matrix product."""
    f_BD = step.features["penultimate"]
    return (f_BD @ f_BD.T).square().mean()


def test_a_user_defined_term_is_float32() -> None:
    torch.manual_seed(0)
    classifier = FrozenClassifier(ConvNet(), SPEC)
    objective = Objective({"own": {"weight": 1.0, "_target_": f"{__name__}.product"}})
    x_BCHW = seeded(4, 1, 28, 28)
    with bfloat16():
        logits_BN, features, _ = classifier.trace(x_BCHW)
        assert logits_BN.dtype == features["penultimate"].dtype == torch.float32
        step = Step(x_BCHW, None, logits_BN, features, classifier)  # type: ignore[arg-type]
        value = objective(step)["own"]
    f_BD = features["penultimate"]
    assert value == (f_BD @ f_BD.T).square().mean()


def test_margin_gradients_and_adversarial_directions_are_float32() -> None:
    model, x_BCHW, label_B = network("BatchNorm MLP"), seeded(4, 1, 28, 28), torch.arange(4)
    ascent = Perturbation(norm="l2", radius=1.0, direction="adversarial", steps=2, clamp=False)
    plain, _ = margin_gradients(model, x_BCHW, label_B, torch.ones(4))
    torch.manual_seed(0)
    moved_BCHW = ascent(x_BCHW, label_B, model)
    with bfloat16():
        found, _ = margin_gradients(model, x_BCHW, label_B, torch.ones(4))
        torch.manual_seed(0)
        assert torch.equal(ascent(x_BCHW, label_B, model), moved_BCHW)
    assert all(torch.equal(found[name], gradient) for name, gradient in plain.items())


def one_step(
    loss: str, model: nn.Module, half: bool, generators: int = 1
) -> tuple[dict[str, float], list[Tensor]]:
    """Return the terms of a training step and the gradients of the generators' weights."""
    cfg = netinv_lightning.compose(
        [*FEW_STEPS, "application.batch_size=4", f"loss={loss}", f"n_generators={generators}"]
    )
    module = make_module(cfg, FrozenClassifier(model, SPEC)).to(memory_format=torch.channels_last)
    recorded: list[Tensor] = []
    module._record = recorded.append  # type: ignore[method-assign]
    with bfloat16(half):
        loss_of_step = module.training_step(None, 0)
    loss_of_step.backward()
    running = [buffer for name, buffer in module.generators.named_buffers() if "running" in name]
    assert all(buffer.dtype == torch.float32 for buffer in running)
    values_V = recorded[0].mean(dim=0)
    assert values_V.dtype == torch.float32
    gradients = [weight.grad for weight in module.generators.parameters()]
    assert all(gradient is not None and gradient.dtype == torch.float32 for gradient in gradients)
    values = dict(zip(module.columns, values_V.tolist(), strict=True))
    return values, gradients  # type: ignore[return-value]


@pytest.mark.parametrize("loss", PRESETS)
@pytest.mark.parametrize("name", NETWORKS)
def test_presets_agree_in_both_precisions(name: str, loss: str) -> None:
    plain, _ = one_step(loss, network(name), half=False)
    found, gradients = one_step(loss, network(name), half=True)
    assert found.keys() == plain.keys()
    for column in plain.keys() - {names.INVERSION_ACCURACY_TRAIN}:
        assert found[column] == pytest.approx(plain[column], rel=0.05, abs=0.02), column
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_two_generators_agree_in_both_precisions() -> None:
    plain, of_plain = one_step("natural", network("BatchNorm MLP"), half=False, generators=2)
    found, gradients = one_step("natural", network("BatchNorm MLP"), half=True, generators=2)
    assert found[names.LOSS_TOTAL] == pytest.approx(plain[names.LOSS_TOTAL], rel=0.05)
    flat = [torch.cat([gradient.flatten() for gradient in of]) for of in (of_plain, gradients)]
    assert torch.cosine_similarity(*flat, dim=0) > 0.95
