"""The public functions: any nn.Module can be inverted, and remains unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.errors import InputError
from tests.conftest import FEW_STEPS


def own_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 8 * 8, 16),
        nn.Linear(16, 5),
    )


def test_invert_leaves_the_network_unchanged() -> None:
    network = own_network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    result = netinv_lightning.invert(
        network, num_classes=5, channels=3, image_size=32, overrides=FEW_STEPS
    )
    assert 0 <= result.metrics[names.INVERSION_ACCURACY] <= 1
    assert result.sample([0, 4]).shape == (2, 3, 32, 32)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_invert_reaches_a_linear_classifier() -> None:
    """The classes depend on brightness only, so 150 steps invert it almost perfectly."""
    network = nn.Sequential(nn.AvgPool2d(14), nn.Flatten(), nn.Linear(4, 4, bias=False))
    with torch.no_grad():
        network[2].weight.copy_(8 * torch.eye(4))
    overrides = [
        *FEW_STEPS,
        "application.steps=150",
        "application.lr=0.01",
        "application.batch_size=32",
        "application.eval_samples=500",
        "application.log_every=50",
        "application.checkpoint_every=1000",
    ]
    result = netinv_lightning.invert(
        network, num_classes=4, channels=1, image_size=28, overrides=overrides
    )
    assert result.metrics[names.INVERSION_ACCURACY_HOT] > 0.95


def test_a_wrong_number_of_classes_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"classifier.num_classes=7: the network returns outputs of shape \[5\]"
    ):
        netinv_lightning.invert(
            own_network(), num_classes=7, channels=3, image_size=32, overrides=FEW_STEPS
        )


def test_compose_gives_the_message_of_the_command_line() -> None:
    with pytest.raises(
        InputError,
        match=r"loss.cosin.weight: there is no such key; did you mean 'loss.cosine.weight'\?",
    ):
        netinv_lightning.compose(["loss.cosin.weight=1"])


def test_a_result_has_its_shape_verdict_and_run(tmp_path: Path) -> None:
    result = netinv_lightning.invert(own_network(), overrides=FEW_STEPS, run_dir=tmp_path / "run")
    assert result.classifier.spec.shape == (3, 32, 32)
    assert (result.run_dir, result.verdict) == (tmp_path / "run", "no inversion")
    accuracy = result.metrics[names.INVERSION_ACCURACY]
    assert repr(result) == (
        f"<Inversion: Sequential, 5 classes, 3 x 32 x 32; accuracy {accuracy:.3f}; no inversion; "
        f"{tmp_path / 'run'}>"
    )
    with pytest.raises(InputError, match="columns=0: must be 1 or more"):
        result.show(columns=0)


def test_the_package_lists_its_functions() -> None:
    assert dir(netinv_lightning) == sorted([*netinv_lightning.__all__, "__version__"])


def test_a_string_of_overrides_is_refused() -> None:
    said = r"overrides='application.steps=5': is a string; must be a list of strings: \['applic"
    with pytest.raises(InputError, match=said):
        netinv_lightning.invert(own_network(), overrides="application.steps=5")


def test_a_torchscript_network_is_inverted_by_its_logits() -> None:
    network = torch.jit.trace(own_network().eval(), torch.zeros(2, 3, 32, 32))
    with pytest.raises(InputError, match=r"set classifier.feature_layers=\[logits\]"):
        netinv_lightning.invert(network, 5, 3, 32, overrides=FEW_STEPS)
    result = netinv_lightning.invert(
        network, 5, 3, 32, overrides=FEW_STEPS, feature_layers=["logits"]
    )
    assert 0 <= result.metrics[names.INVERSION_ACCURACY] <= 1
    assert result.classifier.feature_dims == {"logits": 5}
