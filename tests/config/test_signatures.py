"""Names read from source files are those that the imported classes have."""

from __future__ import annotations

import inspect

import lightning
import pytest

from netinv_lightning.classifiers import networks
from netinv_lightning.config.signatures import NETWORKS, constructor_of, network_parts, trainer_keys

OWN = (networks.CNN, networks.MLP, networks.ResNet, networks.ViT)


def test_trainer_keys_are_the_arguments_of_the_trainer() -> None:
    arguments = set(inspect.signature(lightning.Trainer.__init__).parameters)
    assert trainer_keys() == arguments - {"self", "logger", "callbacks"}


@pytest.mark.parametrize("network", OWN, ids=lambda network: network.__name__)
def test_parts_of_own_networks_hold_their_layers(network: type) -> None:
    parts = network_parts(f"{NETWORKS}.{network.__name__}")
    assert parts is not None
    arguments, attributes = parts
    assert arguments == set(inspect.signature(network).parameters)
    made = network(num_classes=3, channels=1, image_size=28)
    assert {name for name, _ in made.named_children()} <= attributes
    assert {name.partition(".")[0] for name in made.state_dict()} <= attributes


def test_other_networks_and_missing_sources_have_no_parts() -> None:
    assert network_parts("timm.create_model") is None
    assert network_parts(f"{NETWORKS}.Missing") is None
    assert constructor_of("no_such_package.a.Class") is None
    assert constructor_of("lightning.no_such_module.Trainer") is None


def test_a_class_without_a_constructor_has_that_of_its_base() -> None:
    module = "netinv_lightning.inversion.methods"
    inherited = constructor_of(f"{module}.approach.PixelInversion")  # imported there
    assert inherited is constructor_of(f"{module}.gradient.PixelInversion") is not None
