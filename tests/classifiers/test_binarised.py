"""The binarised network: its integer form, its gradients and its training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netinv_lightning.classifiers.binarised import (
    BinarisedMLP,
    integer_layers,
    integer_logits,
    sign,
)
from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.penultimate import last_linear
from netinv_lightning.classifiers.zoo import zoo_names

BINARISED = [name for name in zoo_names() if name.endswith("_binarised")]


def random_network(widths: tuple[int, ...], seed: int) -> BinarisedMLP:
    torch.manual_seed(seed)
    network = BinarisedMLP(num_classes=4, channels=2, image_size=(3, 5), widths=widths)
    for layer in (*network.hidden, network.head):
        nn.init.normal_(layer.parametrizations.bias.original, std=2.0)
    return network.eval()


@pytest.mark.parametrize("widths", [(), (7,), (300, 6)])
@pytest.mark.parametrize("half", [False, True])
def test_the_integer_form_equals_the_network(widths: tuple[int, ...], half: bool) -> None:
    network = random_network(widths, seed=len(widths))
    x_BCHW = torch.randn(200, 2, 3, 5)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits_BN, bits_BI = network(x_BCHW), network.bits(x_BCHW)
    exact_BN = integer_logits(integer_layers(network), bits_BI)
    scale = last_linear(network).in_features ** 0.5
    assert torch.equal((logits_BN * scale).round().long(), exact_BN)
    # Also where several classes have the largest logit, the first one is predicted.
    largest_BN = exact_BN == exact_BN.max(dim=1, keepdim=True).values
    assert int((largest_BN.sum(dim=1) > 1).sum()) > 0
    assert torch.equal(logits_BN.argmax(dim=1), largest_BN.long().argmax(dim=1))


@pytest.mark.parametrize("name", BINARISED)
def test_networks_of_the_zoo_equal_their_integer_form(name: str) -> None:
    classifier = load_zoo(name)
    network = classifier.network
    assert isinstance(network, BinarisedMLP)
    x_BCHW = torch.rand(500, *classifier.spec.shape, generator=torch.Generator().manual_seed(0))
    mean, std = classifier.mean_C11, classifier.std_C11
    bits_BI = network.bits((x_BCHW - mean) / std)
    assert torch.equal(bits_BI > 0, (x_BCHW >= mean).flatten(1))
    exact_BN = integer_logits(integer_layers(network), bits_BI)
    assert torch.equal(classifier(x_BCHW).argmax(dim=1), exact_BN.argmax(dim=1))


def test_weights_are_signs_and_thresholds_integers() -> None:
    network = random_network((7,), seed=0)
    for layer in (*network.hidden, network.head):
        assert set(layer.weight.unique().tolist()) == {-1.0, 1.0}
        assert torch.equal(layer.bias, layer.bias.round())


def test_the_gradient_passes_straight_through_the_sign() -> None:
    z = torch.tensor([-2.0, -1.0, -0.0, 0.5, 3.0], requires_grad=True)
    signed = sign(z, window=1.0)
    assert signed.tolist() == [-1.0, -1.0, 1.0, 1.0, 1.0]
    (gradient,) = torch.autograd.grad((signed * torch.arange(5.0)).sum(), z)
    assert gradient.tolist() == [0.0, 1.0, 2.0, 3.0, 0.0]


def test_training_changes_signs_and_lowers_the_loss() -> None:
    torch.manual_seed(0)
    network = BinarisedMLP(num_classes=2, channels=1, image_size=4, widths=(8,))
    before_OI = network.head.weight.clone()
    x_BCHW = torch.randn(64, 1, 4, 4)
    y_B = (x_BCHW[:, 0, :2].mean(dim=(1, 2)) > x_BCHW[:, 0, 2:].mean(dim=(1, 2))).long()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    losses = []
    for _ in range(40):
        loss = nn.functional.cross_entropy(network(x_BCHW), y_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert not torch.equal(network.head.weight, before_OI)


def test_an_impossible_window_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^window=0: must be above 0$"):
        BinarisedMLP(num_classes=2, channels=1, image_size=4, window=0)
