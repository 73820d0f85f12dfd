"""`loss.uncertainty`: entropies by hand, dropout that repeats, ensembles apart from verifiers.

Shape suffixes: K predictions, B batch, N classes, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from netinv_lightning.classifiers.build import load_classifier, load_zoo
from netinv_lightning.errors import InputError
from netinv_lightning.inversion import losses
from netinv_lightning.inversion.build_objective import build_objective
from netinv_lightning.inversion.terms import uncertainty
from netinv_lightning.inversion.uncertainty import dropout_passes
from tests.inversion.small_objective import made_step

Compose = Callable[..., DictConfig]
LOG2 = math.log(2)


@pytest.mark.parametrize(
    ("p_KN", "predictive", "epistemic"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], LOG2, LOG2),  # two certain networks that disagree
        ([[0.5, 0.5], [0.5, 0.5]], LOG2, 0.0),  # two uncertain networks that agree
        ([[1.0, 0.0], [1.0, 0.0]], 0.0, 0.0),
    ],
)
def test_uncertainty_by_hand(p_KN: list[list[float]], predictive: float, epistemic: float) -> None:
    logits_KBN = torch.tensor(p_KN)[:, None].log().clamp_min(-50)
    for part, expected in ((False, predictive), (True, epistemic)):
        value = losses.uncertainty(logits_KBN, multi_label=False, epistemic=part)
        assert value.item() == pytest.approx(expected, abs=1e-4)


def test_uncertainty_of_label_sets_sums_over_the_labels() -> None:
    logits_KBN = torch.tensor([[[50.0, 0.0, 50.0]], [[-50.0, 0.0, 50.0]]])
    predictive = losses.uncertainty(logits_KBN, multi_label=True, epistemic=False)
    epistemic = losses.uncertainty(logits_KBN, multi_label=True, epistemic=True)
    assert predictive.item() == pytest.approx(2 * LOG2, abs=1e-4)
    assert epistemic.item() == pytest.approx(LOG2, abs=1e-4)


def test_dropout_repeats_for_parts_and_leaves_the_classifier_as_it_was() -> None:
    step = made_step()
    step.x_BCHW, step.stream = step.x_BCHW.detach().requires_grad_(), None

    def value_and_gradient() -> tuple[Tensor, Tensor]:
        torch.manual_seed(3)
        value = uncertainty(step, kind="epistemic", passes=3)
        return value, torch.autograd.grad(value, step.x_BCHW)[0]

    value, gradient_BCHW = value_and_gradient()
    again, same_BCHW = value_and_gradient()
    assert value.item() > 0
    assert gradient_BCHW.abs().max() > 0
    assert torch.equal(value, again)
    assert torch.equal(gradient_BCHW, same_BCHW)
    assert not any(module.training for module in step.classifier.modules())
    step.micro_batch = 4
    _, in_parts_BCHW = value_and_gradient()
    torch.manual_seed(3)
    logits = [
        torch.cat([one_pass(x_bCHW) for x_bCHW in step.x_BCHW.split(4)])
        for one_pass in dropout_passes(step.classifier, 3, None)
    ]
    value = losses.uncertainty(torch.stack(logits), multi_label=False, epistemic=True)
    (expected_BCHW,) = torch.autograd.grad(value, step.x_BCHW)
    torch.testing.assert_close(in_parts_BCHW, expected_BCHW)


def test_an_ensemble_is_uncertain_where_its_networks_disagree(compose: Compose) -> None:
    cfg = compose(
        "classifier.zoo=mnist_cnn",
        "+loss.uncertainty={weight: 1.0, networks: [mnist_mlp], kind: epistemic}",
    )
    classifier = load_classifier(cfg)
    objective = build_objective(cfg, classifier)
    step = made_step()
    step.x_BCHW = torch.rand(6, 1, 28, 28, requires_grad=True)
    step.classifier, step.logits_BN = classifier, classifier(step.x_BCHW)
    value = objective._terms["uncertainty"](step)
    expected = losses.uncertainty(
        torch.stack([step.logits_BN, load_zoo("mnist_mlp")(step.x_BCHW)]), False, True
    )
    torch.testing.assert_close(value, expected)
    assert torch.autograd.grad(value, step.x_BCHW)[0].abs().max() > 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["application.verifiers=[mnist_mlp]",
             "+loss.uncertainty={weight: 1, networks: [mnist_mlp]}"],
            r"^loss.uncertainty.networks=mnist_mlp: is a verifier of this run",
        ),
        (
            ["+loss.uncertainty={weight: 1, networks: [mnist_resnet]}"],
            r"^loss.uncertainty.networks=mnist_resnet: is the classifier that is inverted",
        ),
        (
            ["+loss.uncertainty={weight: 1}"],
            r"^loss.uncertainty: needs dropout layers, or other networks in "
            r"loss.uncertainty.networks, which ResNet does not have",
        ),
    ],
)  # fmt: skip
def test_what_has_no_uncertainty_is_refused(
    compose: Compose, overrides: list[str], message: str
) -> None:
    cfg = compose("classifier.zoo=mnist_resnet", *overrides)
    with pytest.raises(InputError, match=message):
        build_objective(cfg, load_classifier(cfg))
