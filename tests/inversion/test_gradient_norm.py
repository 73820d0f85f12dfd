"""The gradient norm of networks that vmap can and cannot run, in both precisions."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.inversion import gradient_norm, losses
from tests.inversion.precision_cases import NETWORKS, SPEC, ConvNet, bfloat16, network, seeded


def naive_norms(model: nn.Module, x_BCHW: Tensor, label_B: Tensor) -> Tensor:
    """Return the mean over images of the gradient norm of each image."""
    weights = [weight.requires_grad_() for weight in copy.deepcopy(model).parameters()]
    named = dict(zip(dict(model.named_parameters()), weights, strict=True))
    loss_B = F.cross_entropy(
        torch.func.functional_call(model, named, (x_BCHW,)), label_B, reduction="none"
    )
    gradients = [torch.autograd.grad(loss, weights, create_graph=True) for loss in loss_B]
    return torch.stack(
        [torch.stack([g.square().sum() for g in of_image]).sum().sqrt() for of_image in gradients]
    ).mean()


@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_norm_of_networks_that_vmap_cannot_run(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Compare the batch with single images, which all take the same branch as the batch."""
    model, label_B = network(name), torch.arange(5)
    x_BCHW = seeded(5, 1, 28, 28).requires_grad_()
    expected = naive_norms(model, x_BCHW, label_B)
    (expected_gradient,) = torch.autograd.grad(expected, x_BCHW)
    for half in (False, True):
        with bfloat16(half):
            value = losses.gradient_norm(model, x_BCHW, label_B)
        (gradient,) = torch.autograd.grad(value, x_BCHW)
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-6)
    with torch.no_grad():  # as for a term of weight 0
        torch.testing.assert_close(
            losses.gradient_norm(model, x_BCHW, label_B), expected, rtol=1e-5, atol=1e-6
        )
    slow = name != "BatchNorm MLP"
    assert (
        len(
            [record for record in caplog.records if "one backward pass per image" in record.message]
        )
        == slow
    )  # one warning per network


def test_the_trial_run_of_vmap_is_not_counted_as_cost() -> None:
    classifier, x_BCHW = (
        FrozenClassifier(network("branching"), SPEC),
        seeded(5, 1, 28, 28).requires_grad_(),
    )
    before = classifier.forward_count.forwards, classifier.forward_count.backwards
    losses.gradient_norm(classifier, x_BCHW, torch.arange(5)).backward()
    assert (
        classifier.forward_count.forwards - before[0],
        classifier.forward_count.backwards - before[1],
    ) == (
        5,
        5,
    )


def test_running_out_of_memory_does_not_disable_vmap(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gradient_norm, "_squares_by_vmap", full)
    with pytest.raises(torch.OutOfMemoryError):
        losses.gradient_norm(ConvNet().eval(), seeded(2, 1, 28, 28), torch.arange(2))
