"""The classifier wrapper that inversion uses: normalisation, frozen weights, features of layers."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.networks import CNN, MLP, ResNet, ViT
from netinv_lightning.data.specs import CIFAR10
from netinv_lightning.errors import InputError

SPEC = CIFAR10
Make = Callable[[], nn.Module]


def own_network() -> nn.Sequential:
    """Return a network as a user may write it, with a layer after the classification layer."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 10), nn.Identity(),
    )  # fmt: skip


NETWORKS = {
    "cnn": (lambda: CNN(10, 3, 32, stages=[[8], [8]], hidden=12), "head"),
    "mlp": (lambda: MLP(10, 3, 32, widths=[16]), "head"),
    "resnet": (lambda: ResNet(10, 3, 32, widths=[4, 8], stem_stride=2), "head"),
    "vit": (lambda: ViT(10, 3, 32, patch=8, dim=12, depth=1), "head"),
    "torchvision resnet18": (
        lambda: torchvision.models.resnet18(weights=None, num_classes=10),
        "fc",
    ),
    "a user's own": (own_network, "8"),
}


@pytest.fixture(params=NETWORKS)
def named(request: pytest.FixtureRequest) -> tuple[nn.Module, str]:
    torch.manual_seed(0)
    make, head = NETWORKS[request.param]
    network = make()
    network(torch.rand(8, 3, 32, 32))  # updates the statistics of BatchNorm
    return network, head


def state(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: tensor.clone()
        for name, tensor in (*module.named_parameters(), *module.named_buffers())
    }


def test_images_are_normalised_by_the_wrapper(named: tuple[nn.Module, str]) -> None:
    network, _ = named
    frozen = FrozenClassifier(network, SPEC)
    x_BCHW = torch.rand(4, 3, 32, 32)
    mean, std = torch.tensor(SPEC.mean).view(3, 1, 1), torch.tensor(SPEC.std).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(frozen(x_BCHW), network.eval()((x_BCHW - mean) / std))
        assert not torch.allclose(frozen(x_BCHW), network(x_BCHW))
    assert set(frozen.state_dict()) == {f"network.{name}" for name in network.state_dict()}


def test_the_classifier_does_not_change_in_an_optimisation(
    named: tuple[nn.Module, str],
) -> None:
    frozen = FrozenClassifier(named[0], SPEC)
    before = state(frozen)
    parent = nn.ModuleList([frozen, nn.Linear(2, 2)])
    x_BCHW = nn.Parameter(torch.rand(4, 3, 32, 32))
    start = x_BCHW.detach().clone()
    optimizer = torch.optim.Adam(
        [{"params": parent.parameters()}, {"params": [x_BCHW]}], lr=0.01, weight_decay=0.1
    )
    for step in range(5):
        parent.train()
        frozen.train(step % 2 == 0)
        logits_BN, features = frozen.logits_and_features(x_BCHW)
        optimizer.zero_grad()
        (
            F.cross_entropy(logits_BN, torch.arange(4)) + features["penultimate"].square().mean()
        ).backward()
        optimizer.step()
    after = state(frozen)
    assert set(after) == set(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not torch.equal(x_BCHW, start)


def test_it_stays_in_evaluation_mode_without_gradients(named: tuple[nn.Module, str]) -> None:
    frozen = FrozenClassifier(named[0].train(), SPEC)
    nn.ModuleList([frozen]).train()
    assert frozen.train() is frozen
    assert not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    x_BCHW = torch.rand(4, 3, 32, 32)
    assert torch.equal(frozen(x_BCHW), frozen(x_BCHW))  # no dropout
    torch.testing.assert_close(frozen(x_BCHW)[:1], frozen(x_BCHW[:1]))  # no batch statistics


def test_the_penultimate_feature_is_the_input_of_the_head(named: tuple[nn.Module, str]) -> None:
    network, head = named
    frozen = FrozenClassifier(network, SPEC)
    logits_BN, features = frozen.logits_and_features(torch.rand(4, 3, 32, 32))
    assert list(features) == ["penultimate"]
    linear = network.get_submodule(head)
    assert features["penultimate"].shape == (4, linear.in_features)
    torch.testing.assert_close(linear(features["penultimate"]), logits_BN)


def test_named_layers_give_flattened_outputs_in_order() -> None:
    network, _ = CNN(10, 3, 32, stages=[[8], [4]], hidden=12), torch.manual_seed(0)
    frozen = FrozenClassifier(
        network, SPEC, ["convolutions.0", "penultimate", "fully_connected.2", "head"]
    )
    x_BCHW = torch.rand(2, 3, 32, 32)
    logits_BN, features = frozen.logits_and_features(x_BCHW)
    assert list(features) == ["convolutions.0", "penultimate", "fully_connected.2", "head"]
    inside = (x_BCHW - frozen.mean_C11) / frozen.std_C11
    torch.testing.assert_close(
        features["convolutions.0"], network.convolutions[0](inside).flatten(1)
    )
    torch.testing.assert_close(
        features["fully_connected.2"],
        network.convolutions(inside).flatten(1) @ network.fully_connected[2].weight.T,
    )
    assert torch.equal(features["head"], logits_BN)


def test_in_place_layers_do_not_change_features() -> None:
    network = own_network()
    frozen = FrozenClassifier(network, SPEC, ["1"])  # BatchNorm before ReLU(inplace=True)
    x_BCHW = torch.rand(2, 3, 32, 32)
    _, features = frozen.logits_and_features(x_BCHW)
    torch.testing.assert_close(
        features["1"],
        network[1](network[0]((x_BCHW - frozen.mean_C11) / frozen.std_C11)).flatten(1),
    )


def test_gradients_reach_the_images_through_logits_and_features() -> None:
    frozen = FrozenClassifier(own_network(), SPEC, ["0", "penultimate"])
    for output in ("logits", "0", "penultimate"):
        x_BCHW = torch.rand(2, 3, 32, 32, requires_grad=True)
        logits_BN, features = frozen.logits_and_features(x_BCHW)
        ({"logits": logits_BN, **features}[output][0] ** 2).sum().backward()
        assert x_BCHW.grad is not None
        assert x_BCHW.grad[0].abs().sum() > 0
        assert x_BCHW.grad[1].abs().sum() == 0


def test_no_graph_and_no_tensor_outlive_the_call() -> None:
    frozen = FrozenClassifier(own_network(), SPEC)
    x_BCHW = torch.rand(2, 3, 32, 32, requires_grad=True)
    logits_BN, features = frozen.logits_and_features(x_BCHW)
    assert not frozen.recorder.active
    watched = weakref.ref(features["penultimate"]), weakref.ref(logits_BN), weakref.ref(x_BCHW)
    frozen(x_BCHW)
    assert not frozen.recorder.active
    del x_BCHW, logits_BN, features
    gc.collect()
    assert [reference() for reference in watched] == [None] * 3
    with pytest.raises(RuntimeError):
        frozen.logits_and_features(torch.rand(2, 1, 32, 32)[:, :, :1])  # fails before the end
    assert not frozen.recorder.active


class Tuples(nn.Module):
    """Network with a layer whose output is not a tensor, and a layer that never runs.

    Attention and recurrent layers have such outputs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.attention = nn.Flatten(), nn.MultiheadAttention(3072, 1)
        self.unused, self.head = nn.Linear(2, 2), nn.Linear(3072, 10)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        t_BD = self.flat(x_BCHW)
        return self.head(self.attention(t_BD, t_BD, t_BD)[0])


@pytest.mark.parametrize(
    ("network", "spec", "layers", "said"),
    [
        (
            own_network,
            {},
            ["penultimat"],
            "feature_layers=penultimat: the network has no such layer; did you mean 'penultimate'?",
        ),
        (lambda: CNN(10, 3, 32), {}, ["fully_conected"], "did you mean 'fully_connected'?"),
        (
            lambda: nn.Sequential(nn.AvgPool2d(32), nn.Flatten()),
            {"num_classes": 3},
            ["penultimate"],
            "classifier.feature_layers=penultimate",
        ),
        (Tuples, {}, ["unused"], "classifier.feature_layers"),
        (Tuples, {}, ["attention"], "classifier.feature_layers"),
        (
            own_network,
            {"num_classes": 7},
            ["penultimate"],
            "outputs of shape [10]; it must return one logit per class. Set "
            "classifier.num_classes=10",
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 10, 3)),
            {},
            ["0"],
            "num_classes=10: the network returns outputs of shape [10, 30, 30]",
        ),
        (
            own_network,
            {"channels": 1, "mean": (0.5,), "std": (0.5,)},
            ["penultimate"],
            "(classifier.channels, classifier.image_size)",
        ),
        (
            lambda: MLP(10, 3, 28),
            {},
            ["penultimate"],
            "(classifier.channels, classifier.image_size)",
        ),
        (own_network, {"mean": (0.5,)}, ["penultimate"], "classifier.mean=[0.5]"),
        (own_network, {"std": (0.5, 0.5)}, ["penultimate"], "classifier.std=[0.5, 0.5]"),
        (own_network, {"std": (0.5, 0.0, 0.5)}, ["penultimate"], "classifier.std=[0.5, 0.0, 0.5]"),
    ],
)
def test_invalid_settings_give_one_line_naming_their_key(
    network: Make, spec: dict[str, object], layers: list[str], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        FrozenClassifier(network(), replace(SPEC, **spec), layers)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
