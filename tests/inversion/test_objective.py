"""The objective: named, weighted terms computed from one training step.

Shape suffixes: B batch, N classes, D features, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Categorical

from netinv_lightning.errors import InputError
from netinv_lightning.inversion import losses
from netinv_lightning.inversion.augmentation import random_crops
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.inversion.stationarity import margin_gradients, misalignment
from netinv_lightning.inversion.terms import TERMS, Step
from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.gradient_steps import decayed_weights
from netinv_lightning.training.seeds import own_randomness
from tests.inversion.small_objective import EARLIER, PENULTIMATE, SPEC, made_step, value_of


def pixel_distance(step: Step) -> Tensor:
    mean_C, var_C = torch.tensor(SPEC.mean), torch.tensor(SPEC.std).square()
    return losses.statistics_distance(step.x_BCHW, mean_C, var_C)


def contrast_of_crops(step: Step) -> Tensor:
    """InfoNCE of the crops that the step's stream draws first, image by image."""
    _, crops = step.classifier.logits_and_features(random_crops(step.x_BCHW, 0.25, Stream(0)))
    total = torch.zeros(())
    for layer, whole_BD in step.features.items():
        for i, crop_D in enumerate(crops[layer]):
            cosine_B = torch.cosine_similarity(crop_D[None], whole_BD)
            total = total - (cosine_B / 0.1).log_softmax(dim=0)[i] / len(whole_BD)
    return total


def distance_to_normal(x_BC: Tensor) -> Tensor:
    """Return the distances of mean and variance of each channel to 0 and 1, as one number."""
    values_CV = x_BC.transpose(0, 1).flatten(1)
    return values_CV.mean(dim=1).norm() + (values_CV.var(dim=1, correction=0) - 1).norm()


def variation_norms(x_BCHW: Tensor) -> Tensor:
    """Return the norms of the differences to the next pixel in four directions."""
    wide = torch.nn.functional.pad(x_BCHW, (1, 1, 0, 1), value=math.nan)
    own, H, W = wide[..., :-1, 1:-1], *x_BCHW.shape[2:]
    moved = [wide[..., :H, 2:]] + [wide[..., 1 : H + 1, k : k + W] for k in range(3)]
    return torch.stack([(own - other).nan_to_num().norm() for other in moved]).sum()


def entropy_under_dropout(step: Step) -> Tensor:
    """Return the mean entropy of the mean prediction of 8 passes with dropout."""
    first = int(Stream(0).shared_uniform() * 2**40)
    dropouts = [layer for layer in step.classifier.modules() if isinstance(layer, nn.Dropout)]
    p_BN = torch.zeros_like(step.logits_BN)
    for layer in dropouts:
        layer.train()
    for seed in range(first, first + 8):
        with own_randomness(seed, torch.device("cpu")):
            p_BN = p_BN + step.classifier(step.x_BCHW).softmax(dim=1) / 8
    for layer in dropouts:
        layer.eval()
    return Categorical(p_BN).entropy().mean()


EXPECTED: dict[str, Callable[[Step], Tensor]] = {
    "kl": lambda step: losses.kl_divergence(step.condition.target_BN, step.logits_BN),
    "ce": lambda step: losses.cross_entropy(step.logits_BN, step.condition.label_B),
    "cosine": lambda step: sum(
        (losses.cosine_similarity(f_BD) for f_BD in step.features.values()), torch.zeros(())
    ),
    "orthogonality": lambda step: sum(
        (losses.orthogonality(f_BD) for f_BD in step.features.values()), torch.zeros(())
    ),
    "kl_perturbed": lambda step: losses.kl_divergence(
        step.condition.target_BN, step.perturbed_logits_BN
    ),
    "ce_perturbed": lambda step: losses.cross_entropy(
        step.perturbed_logits_BN, step.condition.label_B
    ),
    "variation": lambda step: losses.variation(step.x_BCHW),
    "pixel": lambda step: losses.pixel_range(step.x_BCHW),
    "gradient": lambda step: losses.gradient_norm(
        step.classifier, step.x_BCHW, step.condition.label_B
    ),
    "l1": lambda step: sum(
        (weight.abs().sum() for weight in step.generator.parameters()), torch.zeros(())
    ),
    "batch_norm": lambda step: (
        torch.stack(
            [
                losses.statistics_distance(
                    x_BC, torch.zeros(x_BC.shape[1]), torch.ones(x_BC.shape[1])
                )
                for name, x_BC in step.normed.items()
                if name != "tokens"
            ]
        ).mean()
        + pixel_distance(step)
    ),
    "pixel_statistics": lambda step: pixel_distance(step),
    "spectrum": lambda step: losses.power_law_distance(step.x_BCHW, 1.2),
    "patch_similarity": lambda step: losses.similarity_divergence(step.normed["tokens"], 0.05, 16),
    "class_spread": lambda step: losses.class_spread(step.x_BCHW, step.condition.label_B),
    "feature_spread": lambda step: sum(
        (losses.feature_spread(f_BD, step.condition.label_B) for f_BD in step.features.values()),
        torch.zeros(()),
    ),
    "logit": lambda step: (
        -torch.stack(
            [row_N[k] for row_N, k in zip(step.logits_BN, step.condition.label_B, strict=True)]
        ).mean()
    ),
    "batch_norm_l2": lambda step: sum(
        (
            (10 if place == 0 else 1) * distance_to_normal(step.normed[name])
            for place, name in enumerate(name for name in step.normed if name != "tokens")
        ),
        torch.zeros(()),
    ),
    "total_variation": lambda step: variation_norms((step.x_BCHW - 0.3) / 0.5),
    "pixel_norm": lambda step: torch.stack([((x - 0.3) / 0.5).norm() for x in step.x_BCHW]).mean(),
    "uncertainty": lambda step: entropy_under_dropout(step),
    "stationarity": lambda step: misalignment(
        decayed_weights(step.classifier),
        margin_gradients(step.classifier, step.x_BCHW, step.condition.label_B, torch.ones(6), 30.0)[
            0
        ],
    ),
    "duality": lambda step: torch.stack(
        [
            ((z_N[y] - torch.cat([z_N[:y], z_N[y + 1 :]]).logsumexp(0)) / 5 - 1).square()
            for z_N, y in zip(step.logits_BN, step.condition.label_B.tolist(), strict=True)
        ]
    ).mean(),
    "own_prediction": lambda step: -step.logits_BN.softmax(dim=1).amax(dim=1).log().mean(),
    "activation": lambda step: (
        -sum((f_BD.abs().mean() for f_BD in step.features.values()), torch.zeros(()))
    ),
    "balance": lambda step: (
        -torch.distributions.Categorical(step.logits_BN.softmax(dim=1).mean(dim=0)).entropy()
    ),
    "contrast": contrast_of_crops,
    "networks": lambda step: sum(
        (EXPECTED[name](step) for name in ("kl", "ce", "batch_norm")), torch.zeros(())
    ),
}


def needed_options(step: Step, name: str) -> dict[str, Any]:
    """Return the options without which a term is 0: the classifier itself as another network."""
    return {"networks": [step.classifier]} if name == "networks" else {}


# Terms


@pytest.mark.parametrize("name", EXPECTED)
def test_each_term_is_found_by_name_and_equals_its_loss(name: str) -> None:
    step = made_step()
    if name == "pixel":
        step.x_BCHW = 2 * step.x_BCHW - 0.5  # images of a sigmoid would always give 0
    value = value_of(step, name, **needed_options(step, name))
    assert value.shape == ()
    assert value.item() != 0
    torch.testing.assert_close(value, EXPECTED[name](step))


def test_every_term_has_an_expected_value() -> None:
    assert set(TERMS) == set(EXPECTED)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        (
            "kl",
            {"double_softmax": True},
            lambda s: losses.kl_divergence(s.condition.target_BN, s.logits_BN, True),
        ),
        (
            "ce",
            {"label_smoothing": 0.2},
            lambda s: losses.cross_entropy(s.logits_BN, s.condition.label_B, 0.2),
        ),
        (
            "cosine",
            {"absolute": True, "layers": [EARLIER]},
            lambda s: losses.cosine_similarity(s.features[EARLIER], True),
        ),
        (
            "cosine",
            {"layers": [PENULTIMATE]},
            lambda s: losses.cosine_similarity(s.features[PENULTIMATE]),
        ),
        (
            "orthogonality",
            {"normalize": False, "layers": [PENULTIMATE]},
            lambda s: losses.orthogonality(s.features[PENULTIMATE], False),
        ),
        (
            "kl_perturbed",
            {"double_softmax": True},
            lambda s: losses.kl_divergence(s.condition.target_BN, s.perturbed_logits_BN, True),
        ),
        (
            "ce_perturbed",
            {"label_smoothing": 0.2},
            lambda s: losses.cross_entropy(s.perturbed_logits_BN, s.condition.label_B, 0.2),
        ),
        (
            "gradient",
            {"per_image": False},
            lambda s: losses.gradient_norm(s.classifier, s.x_BCHW, s.condition.label_B, False),
        ),
    ],
)
def test_options_are_passed_to_the_losses(
    name: str, options: dict[str, Any], expected: Callable[[Step], Tensor]
) -> None:
    step = made_step()
    torch.testing.assert_close(value_of(step, name, **options), expected(step))
    assert not torch.allclose(
        value_of(step, name, **options), value_of(step, name), rtol=1e-4
    )  # the option changes the value


def test_perturbed_terms_use_the_configured_perturbation() -> None:
    still, moved = made_step(Perturbation("linf", 0.0)), made_step()
    torch.testing.assert_close(value_of(still, "ce_perturbed"), value_of(still, "ce"))
    assert value_of(moved, "ce_perturbed") > value_of(moved, "ce") + 1e-3


def test_perturbed_logits_are_computed_at_most_once_per_step() -> None:
    step = made_step(Perturbation("linf", 0.1, "random"))
    calls: list[int] = []
    step.classifier.register_forward_hook(lambda module, given, output: calls.append(1))
    Objective({"kl": {"weight": 1.0}, "ce": {"weight": 1.0}, "cosine": {"weight": 1.0}})(step)
    assert len(calls) == 0
    Objective(
        {"kl_perturbed": {"weight": 1.0}, "ce_perturbed": {"weight": 1.0, "label_smoothing": 0.1}}
    )(step)
    assert len(calls) == 1


# Weights


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    weights=st.dictionaries(st.sampled_from(sorted(TERMS)), st.floats(0, 1e4), min_size=1),
    values=st.lists(st.floats(-1e3, 1e3), min_size=10),
)
def test_the_total_is_the_weighted_sum(weights: dict[str, float], values: list[float]) -> None:
    weights[next(iter(weights))] += 1.0  # at least one term has a positive weight
    objective = Objective({name: {"weight": weight} for name, weight in weights.items()})
    terms = dict(zip(objective.names, torch.tensor(values, dtype=torch.float64), strict=False))
    assert objective.names == list(weights)
    expected = math.fsum(weights[name] * value.item() for name, value in terms.items())
    assert objective.total(terms).item() == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_a_term_of_weight_0_is_measured_without_gradient() -> None:
    step = made_step()
    objective = Objective({"kl": {"weight": 0.0}, "ce": {"weight": 2.0}, "gradient": {"weight": 0}})
    values = objective(step)
    for name in ("kl", "gradient"):
        assert not values[name].requires_grad
        torch.testing.assert_close(values[name], EXPECTED[name](step).detach())
    torch.testing.assert_close(objective.total(values), 2 * EXPECTED["ce"](step))


def test_a_measured_term_does_not_change_the_gradient() -> None:
    def gradient(terms: dict[str, dict[str, float]]) -> Tensor:
        step, objective = made_step(), Objective(terms)
        return torch.autograd.grad(objective.total(objective(step)), step.x_BCHW)[0]

    alone_BCHW = gradient({"ce_perturbed": {"weight": 1.0}})
    measured_first_BCHW = gradient(
        {"kl_perturbed": {"weight": 0.0}, "ce_perturbed": {"weight": 1.0}}
    )
    assert alone_BCHW.abs().max() > 0
    torch.testing.assert_close(measured_first_BCHW, alone_BCHW)


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_an_invalid_weight_is_refused(weight: float) -> None:
    with pytest.raises(InputError, match=r"^loss\.kl\.weight="):
        Objective({"kl": {"weight": weight}, "ce": {"weight": 1.0}})


def test_an_objective_needs_a_term_with_a_weight() -> None:
    with pytest.raises(InputError, match=r"^loss: has no terms"):
        Objective({})
    with pytest.raises(InputError, match=r"^loss"):
        Objective({"kl": {"weight": 0.0}, "ce": {"weight": 0.0}})


def test_only_the_generator_receives_gradients() -> None:
    step = made_step()
    before = {name: value.clone() for name, value in step.classifier.state_dict().items()}
    objective = Objective({name: {"weight": 1.0} for name in TERMS if name != "l1"})
    objective.total(objective(step)).backward()
    gradients = {name: weight.grad for name, weight in step.generator.named_parameters()}
    assert all(
        gradient is not None and gradient.isfinite().all() for gradient in gradients.values()
    )
    weights = [
        gradient
        for name, gradient in gradients.items()
        if gradient is not None and gradient.dim() > 1
    ]
    assert len(weights) > 4
    assert all(gradient.abs().max() > 0 for gradient in weights)
    assert all(
        weight.grad is None and not weight.requires_grad for weight in step.classifier.parameters()
    )
    assert all(
        torch.equal(value, before[name]) for name, value in step.classifier.state_dict().items()
    )


@pytest.mark.parametrize("name", [name for name in TERMS if name not in ("pixel", "l1")])
def test_each_term_moves_the_images(name: str) -> None:
    step = made_step()
    value = value_of(step, name, **needed_options(step, name))
    (gradient_BCHW,) = torch.autograd.grad(value, step.x_BCHW)
    assert gradient_BCHW.isfinite().all()
    moved_B = gradient_BCHW.flatten(1).abs().amax(dim=1) > 0
    label_B = step.condition.label_B
    has_company_B = (label_B[:, None] == label_B).sum(dim=1) > 1
    assert 0 < has_company_B.sum() < len(label_B)
    assert torch.equal(
        moved_B, has_company_B if name.endswith("_spread") else torch.ones_like(moved_B)
    )
