"""`method=admm`: a planted input is recovered; other networks are refused.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.layer_chain import chain_of
from netinv_lightning.inversion.methods.admm import AdmmInversion, Splitting
from netinv_lightning.training.seeds import own_randomness
from tests.inversion.methods.small_attacks import frozen

SPEC = DataSpec("made_up", 4, 1, 2, (0.5,), (0.5,), ("a", "b", "c", "d"))


def invertible() -> FrozenClassifier:
    """Return a bijective network of 2 x 2 pixels: orthogonal matrices and LeakyReLU."""
    torch.manual_seed(0)
    linear = [nn.Linear(4, 4) for _ in range(3)]
    for layer in linear:
        nn.init.orthogonal_(layer.weight)
    gates = [nn.LeakyReLU(0.3), nn.LeakyReLU(0.3)]
    network = nn.Sequential(nn.Flatten(), linear[0], gates[0], linear[1], gates[1], linear[2])
    return frozen(network, SPEC)


def convolutional() -> FrozenClassifier:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip
    spec = DataSpec("made_up", 3, 1, 8, (0.2,), (0.5,), ("a", "b", "c"))
    return frozen(network, spec)


def drawn(classifier: FrozenClassifier, labels: list[int], **options: Any) -> tuple[Tensor, Any]:
    admm = AdmmInversion(Conditioning(3, 8, "label"), classifier, 10, **options)
    with own_randomness(0, torch.device("cpu")):
        return admm.draw(admm.conditioning.of_labels(torch.tensor(labels))), admm


def test_a_planted_input_of_an_invertible_network_is_recovered() -> None:
    classifier = invertible()
    planted_BCHW = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    target_BN = classifier(planted_BCHW)
    start_BCHW = torch.full_like(planted_BCHW, 0.5)
    splitting = Splitting(
        chain_of(classifier, "admm"), start_BCHW, lambda _: target_BN, solver_steps=1
    )
    assert float((start_BCHW - planted_BCHW).abs().max()) > 0.3
    for _ in range(400):
        splitting.step()
    torch.testing.assert_close(splitting.image_BCHW, planted_BCHW, rtol=0, atol=0.025)


def test_images_get_their_classes_and_a_seed_gives_the_same_ones() -> None:
    classifier = convolutional()
    x_BCHW, admm = drawn(classifier, [0, 1, 2], steps=100, margin=30.0, restart=100)
    assert classifier(x_BCHW).argmax(dim=1).tolist() == [0, 1, 2]
    assert 0 <= float(x_BCHW.min()) <= float(x_BCHW.max()) <= 1
    assert torch.equal(drawn(classifier, [0, 1, 2], steps=100, margin=30.0, restart=100)[0], x_BCHW)
    # Per step: three solver steps and the right side, and one pass that measures the margin.
    assert (admm.images, admm.forwards, admm.backwards) == (3, 3 * 100 * 5, 3 * 100 * 4)
    condition = admm.conditioning.of_labels(torch.tensor([0, 1, 2]))
    softer = replace(condition, target_BN=condition.target_BN.softmax(dim=1))
    with own_randomness(0, torch.device("cpu")):
        assert torch.equal(admm.draw(softer), x_BCHW)  # the labels alone count
    assert admm.forwards == 3 * 100 * 5


def test_the_chain_computes_the_logits_and_each_adjoint_is_the_transpose() -> None:
    classifier = convolutional()
    chain = chain_of(classifier, "admm")
    x_BCHW = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(chain(x_BCHW), classifier(x_BCHW))
    assert [gate.window for gate in chain.gates] == [(2, 2), ()]
    for affine in chain.affines:
        a, z = torch.randn(2, *affine.shape), torch.randn(2, *affine.bias.shape)
        one, other = (affine.linear(a) * z).sum(), (a * affine.adjoint(z)).sum()
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ("mnist_vit", r"this network has LayerNorm \("),
        ("mnist_resnet", r"such as a shortcut\. Set method=gradient"),
    ],
)
def test_attention_and_shortcuts_are_refused_in_one_line(network: str, reason: str) -> None:
    with pytest.raises(InputError, match=rf"^method=admm: needs a chain of .*{reason}") as error:
        AdmmInversion(Conditioning(10, 28), load_zoo(network), 10)
    assert "\n" not in str(error.value)


def test_overlapping_windows_are_refused() -> None:
    network = nn.Sequential(nn.MaxPool2d(3, stride=1), nn.Flatten(), nn.Linear(36, 3))
    spec = DataSpec("made_up", 3, 1, 8, (0.2,), (0.5,), ("a", "b", "c"))
    with pytest.raises(InputError, match="windows overlap"):
        chain_of(frozen(network, spec), "admm")
