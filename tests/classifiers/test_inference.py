"""Classes, channels and size of a network are inferred, or asked for in one line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.inference import infer_facts
from netinv_lightning.errors import InputError

MISSING: dict[str, Any] = {"num_classes": None, "channels": None, "image_size": None}


def convolutional(classes: int = 5) -> nn.Sequential:
    """Takes images of 32 pixels only."""
    layers = nn.Conv2d(3, 4, 3, stride=4), nn.Flatten(), nn.Linear(256, classes)
    return nn.Sequential(*layers)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(784, 6)

    def forward(self, x_BCHW: Tensor) -> Any:
        f = x_BCHW.flatten(1)
        return {"features": f, "logits": self.head(f), "auxiliary": self.head(f)}


@pytest.mark.parametrize(
    ("network", "found"),
    [
        (convolutional(), (5, 3, 32)),
        (convolutional(1), (2, 3, 32)),
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 9)), (9, 1, 28)),
        (nn.Sequential(nn.Flatten(), nn.Linear(3072, 9)).half(), (9, 3, 32)),
        (Named(), (6, 1, 28)),
    ],
)
def test_shape_and_classes_are_inferred(
    network: nn.Module, found: tuple[int, int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    facts = infer_facts(network, MISSING)
    assert (facts["num_classes"], facts["channels"], facts["image_size"]) == found
    said = f"inferred {found[0]} classes (its output), {found[1]} channels (its first"
    assert said in capsys.readouterr().err


def test_what_is_given_is_not_inferred() -> None:
    given = {"num_classes": 10, "channels": 1, "image_size": 28, "mean": None, "std": (0.5,)}
    assert infer_facts(nn.Identity(), given) == {
        "num_classes": 10,
        "channels": 1,
        "image_size": 28,
        "std": (0.5,),
    }
    assert infer_facts(convolutional(), {**MISSING, "image_size": 32})["channels"] == 3


@pytest.mark.parametrize(
    ("network", "output", "said"),
    [
        (nn.Identity(), None, "channels: cannot be inferred from the layers"),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            None,
            "takes images of 28 and of 32 pixels; give the size",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(7, 2)),
            None,
            "no square images",
        ),
        (Named(), "nothing", "the network returns 0 tensors"),
    ],
)
def test_what_cannot_be_inferred_is_asked_for(
    network: nn.Module, output: str | None, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        infer_facts(network, MISSING, output)


def test_the_metadata_of_timm_and_transformers_are_used() -> None:
    network = convolutional()
    network.num_classes = 5  # type: ignore[assignment]
    network.pretrained_cfg = {  # type: ignore[assignment]
        "num_classes": 5, "input_size": (3, 32, 32), "mean": (0.5, 0.5, 0.5), "std": (1.0, 1.0, 1.0)
    }  # fmt: skip
    facts = infer_facts(network, {**MISSING, "mean": None})
    assert facts == {
        "num_classes": 5,
        "channels": 3,
        "image_size": 32,
        "mean": (0.5, 0.5, 0.5),
        "std": (1.0, 1.0, 1.0),
    }
    network.num_classes = 4  # type: ignore[assignment]
    assert "mean" not in infer_facts(network, MISSING)
    other = convolutional()
    config: Any = SimpleNamespace(num_labels=5, num_channels=3, image_size=32)
    other.config = config
    assert infer_facts(other, MISSING) == {"num_classes": 5, "channels": 3, "image_size": 32}


def test_the_network_is_not_changed() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 5, stride=4), nn.BatchNorm2d(2), nn.Flatten())
    network.append(nn.Linear(72, 4))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert infer_facts(network.eval(), MISSING)["num_classes"] == 4
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
