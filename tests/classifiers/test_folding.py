"""BatchNorm folded into the layer before it.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netinv_lightning.classifiers.folding import folded_batch_norms
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.probing import probe_outputs
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.inversion.objective import Objective

SPEC = DataSpec("own", 3, 2, 6, (0.2, 0.3), (0.4, 0.5), tuple("abc"))


def with_statistics(network: nn.Module) -> nn.Module:
    """Give every BatchNorm layer other statistics and weights than those it starts with."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.2, 3)
            if module.affine:
                nn.init.uniform_(module.weight, -2, 2)
                nn.init.normal_(module.bias)
    return network


def network() -> nn.Module:
    torch.manual_seed(0)
    return with_statistics(
        nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 4, 3, padding=1, groups=2, padding_mode="circular"),
            nn.BatchNorm2d(4, affine=False),
            nn.Flatten(),
            nn.Linear(36, 5),
            nn.BatchNorm1d(5, eps=0.1),
            nn.ReLU(),
            nn.Linear(5, 3),
        )
    )


class Branching(nn.Module):
    """Uses the output of its convolution twice: after BatchNorm, and as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.convolution(x_BCHW)
        return self.head((self.norm(y_BCHW).relu() + y_BCHW).mean(dim=(2, 3)))


class TwoNorms(nn.Module):
    """Passes the output of its convolution to two BatchNorm layers."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 3, 6)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.convolution(x_BCHW)
        return (self.first(y_BCHW) + self.second(y_BCHW).relu()).flatten(1)


class NormWithReLU(nn.BatchNorm2d):
    def forward(self, x_BCHW: Tensor) -> Tensor:
        return super().forward(x_BCHW).relu()


class Twice(nn.Module):
    """Calls its convolution twice, each time before another BatchNorm layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 2, 1)
        self.first, self.second = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
        self.head = nn.Linear(72, 3)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.second(self.convolution(self.first(self.convolution(x_BCHW))))
        return self.head(x_BCHW.flatten(1))


class Tokens(nn.Module):
    """Applies BatchNorm to an axis that the fully connected layer before it does not change."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm, self.head = nn.Linear(36, 2), nn.BatchNorm1d(2), nn.Linear(4, 3)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.head(self.norm(self.linear(x_BCHW.flatten(2))).flatten(1))


def frozen(network: nn.Module, **options: object) -> FrozenClassifier:
    return FrozenClassifier(network, SPEC, **options)  # type: ignore[arg-type]


def test_a_folded_layer_has_the_weights_of_the_equation() -> None:
    """One channel: w = 2, b = 1, m = 3, v = 4, g = 6, beta = 5, so x -> 6 (2x + 1 - 3) / 2 + 5."""
    layers = nn.Sequential(
        nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0), nn.Flatten(), nn.Linear(1, 2)
    )
    weights = [[[[[2.0]]]], [1.0], [6.0], [5.0], [3.0], [4.0]]
    names = ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")
    state = layers.state_dict()
    for name, value in zip(names, weights, strict=True):
        state[name].copy_(torch.tensor(value).reshape(state[name].shape))
    spec = DataSpec("one", 2, 1, 1, (0.0,), (1.0,), tuple("ab"))
    with folded_batch_norms(FrozenClassifier(layers, spec)) as folded:
        assert folded == ["1"]
        assert layers[:2](torch.tensor([[[[10.0]]]])).item() == 6 * (20 - 2) / 2 + 5


def test_outputs_and_gradients_stay_the_same_and_everything_is_undone() -> None:
    classifier = frozen(network(), feature_layers=("1", "penultimate"))
    state = copy.deepcopy(classifier.network.state_dict())
    x_BCHW = torch.rand(4, 2, 6, 6)
    before_BN, plain = classifier(x_BCHW), probe_outputs(classifier)
    calls = []
    handle = classifier.network[1].register_forward_hook(lambda *_: calls.append(1))
    with folded_batch_norms(classifier) as names:
        assert names == ["1", "4", "7"]
        assert not torch.equal(
            classifier.network[0](x_BCHW), F.conv2d(x_BCHW, state["0.weight"], stride=2, padding=1)
        )
        for ours, theirs in zip(probe_outputs(classifier), plain, strict=True):
            torch.testing.assert_close(ours, theirs)
        _, features, normed = classifier.trace(x_BCHW)
        assert normed == {}
        assert features.keys() == {"1", "penultimate"}
        assert calls  # hooks of the folded layers still run
    handle.remove()
    assert torch.equal(classifier(x_BCHW), before_BN)
    assert classifier.trace(x_BCHW)[2].keys() == {"1", "4", "7"}
    after = classifier.network.state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(after[name], state[name]) for name in state)


@pytest.mark.parametrize(
    "unfit",
    [
        Branching(),
        Twice(),
        TwoNorms(),
        Tokens(),
        nn.Sequential(nn.Conv2d(2, 3, 6), NormWithReLU(3), nn.Flatten()),
        nn.Sequential(nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 3, 6), nn.Flatten()),
        nn.Sequential(nn.Conv2d(2, 3, 6), nn.Flatten()),
    ],
    ids=lambda module: type(module).__name__,
)
def test_a_network_that_cannot_be_folded_is_left_as_it_is(unfit: nn.Module) -> None:
    classifier = frozen(with_statistics(unfit))
    x_BCHW = torch.rand(4, 2, 6, 6)
    before_BN = classifier(x_BCHW)
    with folded_batch_norms(classifier) as names:
        assert names == []
        assert torch.equal(classifier(x_BCHW), before_BN)
        assert classifier.trace(x_BCHW)[2].keys() == classifier.batch_norms.keys()


def test_the_layer_of_a_feature_is_not_folded_into() -> None:
    with folded_batch_norms(frozen(network(), feature_layers=("0", "penultimate"))) as names:
        assert names == ["4", "7"]


def test_an_error_inside_the_context_undoes_the_folding() -> None:
    classifier = frozen(network())
    with pytest.raises(KeyError), folded_batch_norms(classifier):
        raise KeyError
    assert "forward" not in vars(classifier.network[0])
    assert not classifier.recorder.folded


@pytest.mark.parametrize(
    ("terms", "reads"),
    [
        ({"kl": {"weight": 1.0}, "cosine": {"weight": 1.0}}, False),
        ({"kl": {"weight": 1.0}, "batch_norm": {"weight": 0.0}}, True),
        ({"stationarity": {"weight": 1.0}}, True),
        ({"kl": {"weight": 1.0, "_target_": lambda step: step.logits_BN.sum()}}, True),
    ],
)
def test_terms_that_may_read_layers_are_known(
    terms: dict[str, dict[str, object]], reads: bool
) -> None:
    assert Objective(terms).reads_layers is reads
