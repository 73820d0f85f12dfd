"""Networks that need care, and networks that cannot be inverted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from tests.classifiers.network_outputs import N, Network, refusal, spec
from tests.conftest import FEW_STEPS


@pytest.mark.parametrize(
    "error",
    [
        KeyError("scale"),
        AttributeError("x"),
        NotImplementedError("x"),
        Exception("a\nb"),
        IndexError(),
    ],
)
def test_an_exception_of_a_network_gives_one_line(error: Exception) -> None:
    def fail(f: Tensor, z: Tensor) -> Tensor:
        raise error

    line = refusal(Network(fail))
    assert "Network cannot be called with images of shape [B, 1, 28, 28]" in line
    assert type(error).__name__ in line


def test_networks_that_cannot_be_inverted_are_refused() -> None:
    class Second(Network):
        def forward(self, x: Tensor, scale: float) -> Tensor:
            return super().forward(x) * scale

    class Rounded(Network):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward((x * 255).round() / 255)

    class Cast(Network):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.to(torch.uint8).float())

    assert "missing 1 required positional argument: 'scale'" in refusal(Second())
    assert "no gradient reaches the pixels through Rounded (the gradient is zero)" in refusal(
        Rounded()
    )
    assert "no gradient reaches the pixels through Cast" in refusal(Cast())
    assert "returns NaN or infinity" in refusal(Network(lambda f, z: z / 0))


class Viewing(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(channels, 3, 3, 3), nn.Linear(243, N)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convolution(x).relu().view(len(x), -1))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_that_needs_contiguous_memory_gets_it(channels: int) -> None:
    own = DataSpec("own", N, channels, 28, (0.2,) * channels, (0.4,) * channels, tuple("abcd"))
    frozen = FrozenClassifier(Viewing(channels), own)
    x_BCHW = torch.rand(3, channels, 28, 28)
    before = frozen(x_BCHW)
    parent = nn.ModuleList([frozen, Classifier(frozen.network, own, like=frozen)]).to(
        memory_format=torch.channels_last
    )
    for classifier in parent:
        assert torch.equal(classifier(x_BCHW.to(memory_format=torch.channels_last)), before)
    assert not FrozenClassifier(nn.Sequential(nn.Conv2d(1, N, 28), nn.Flatten()), spec()).contiguous


@pytest.mark.parametrize(
    ("network", "classes"),
    [(Network(lambda f, z: (f, z.sigmoid().squeeze(1)), 1), 2), (Viewing(1), N)],
    ids=["one probability in a tuple", "view"],
)
def test_unusual_networks_are_inverted_and_not_changed(
    network: nn.Module, classes: int, tmp_path: Path
) -> None:
    network.linear.eval()  # one part is in evaluation mode and stays so
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    result = netinv_lightning.invert(
        network, classes, 1, 28, overrides=FEW_STEPS, run_dir=tmp_path / "run"
    )
    assert 0 <= result.metrics[names.INVERSION_ACCURACY] <= 1
    assert result.sample([0, 1]).shape == (2, 1, 28, 28)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    record = json.loads((tmp_path / "run" / "environment.json").read_text())["classifier"]
    assert record == result.classifier.record()
    assert (record["mean"], record["normalisation_from"]) == ([0.0], "none")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"num_classes": 1}, "num_classes=1: must be a whole number from 2"),
        ({"num_classes": 2.0}, "num_classes=2.0: must be a whole number"),
        ({"channels": 0}, "channels=0: must be a whole number from 1 to 4096"),
        ({"shape": (1, 28, 28)}, "shape=(1, 28, 28): already contains the channels and the size"),
        ({"channels": 3}, "cannot be called with images of shape [B, 3, 28, 28]"),
        ({"image_size": 7}, "image_size=7: must be a whole number from 8 to 512"),
        ({"image_size": (28, 600)}, "image_size=600: must be a whole number from 8 to 512"),
        ({"mean": [0.5, 0.5]}, "classifier.mean=[0.5, 0.5]"),
        ({"std": ["a"]}, "std=['a']: must be 1 numbers each"),
        ({"network": 3}, "network: is a int; must be a torch.nn.Module, or a function of an array"),
    ],
)
def test_invalid_arguments_of_invert_give_one_line(arguments: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {
        "network": Network(),
        "num_classes": N,
        "channels": 1,
        "image_size": 28,
        "overrides": FEW_STEPS,
    }
    with pytest.raises(InputError) as caught:
        netinv_lightning.invert(**{**given, **arguments})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
