"""Classifiers on disk and from the config."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torchvision
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import nn

from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.checkpoints import (
    fill,
    load_weights,
    read_card,
    save_classifier,
    sha256,
)
from netinv_lightning.config.registration import CONF, register
from netinv_lightning.data.specs import CIFAR10, MNIST
from tests.classifiers.small_weights import refusal, same, small

SMALL = {"_target_": "netinv_lightning.classifiers.networks.CNN", "stages": [[4], [4]], "hidden": 8}
CARD = {"name": "small", "data": CIFAR10.as_dict(), "network": SMALL}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "small.v1.safetensors"
    save_classifier(path, small(), CARD)
    return path


# Weights and cards


def test_a_saved_classifier_is_loaded_bit_by_bit_with_its_card(saved: Path) -> None:
    other = small(seed=1)
    assert not same(other, small())
    fill(other, load_weights(saved), "")
    assert same(other, small())
    assert read_card(saved) == {**CARD, "sha256": sha256(saved)}
    assert sorted(path.name for path in saved.parent.iterdir()) == [
        "small.v1.json",
        "small.v1.safetensors",
    ]


@pytest.mark.parametrize("where", [0, 20, -1])
def test_a_damaged_byte_is_found_by_the_sha256_of_the_card(where: int, saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[where] ^= 1
    saved.write_bytes(content)
    assert re.search("damaged.*sha256", refusal(read_card, saved))


@pytest.mark.parametrize("card", [b"", b"{", b"[]", b"{}", b'{"sha256": null}', b"\xff\xfe\x00"])
def test_a_damaged_card_gives_one_line(card: bytes, saved: Path) -> None:
    saved.with_suffix(".json").write_bytes(card)
    assert "small.v1.json" in refusal(read_card, saved)


# From the config


def config(*overrides: str) -> DictConfig:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def test_a_checkpoint_with_a_card_needs_only_its_path(saved: Path) -> None:
    frozen = load_classifier(
        config("data=mnist", "classifier=checkpoint", f"classifier.path={saved}")
    )  # the data of the card, not mnist
    assert same(frozen.network, small())
    assert frozen.spec == CIFAR10


def test_a_checkpoint_without_a_card_needs_a_network(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    torch.save(small(channels=1, side=28).state_dict(), path)
    remedy = "+classifier.network={_target_: "  # with a plus, as Hydra accepts it
    assert remedy in refusal(
        load_classifier, config("classifier=checkpoint", f"classifier.path={path}")
    )
    network = ["+classifier.network.stages=[[4],[4]]", "+classifier.network.hidden=8"]
    frozen = load_classifier(config("classifier=cnn", f"classifier.path={path}", *network))
    assert same(frozen.network, small(channels=1, side=28))
    assert frozen.spec == MNIST
    assert "do not fit the architecture" in refusal(
        load_classifier, config("classifier=cnn", f"classifier.path={path}")
    )


def test_a_users_own_network_is_given_by_its_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_network_of_test_checkpoint.py").write_text(
        "from torch import nn\n\n\nclass Mine(nn.Sequential):\n"
        "    def __init__(self, width):\n        super().__init__(nn.Flatten(), nn.Linear(3 * 20 * "
        "20, width), nn.Linear(width, 5))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    mine = nn.Sequential(nn.Flatten(), nn.Linear(1200, 6), nn.Linear(6, 5))
    torch.save(mine.state_dict(), tmp_path / "mine.pt")
    npz = ["data=npz", f"data.path={tmp_path / 'absent.npz'}"]  # no images are needed
    network = "+classifier.network={_target_: my_network_of_test_checkpoint.Mine, width: 6}"
    named = ["classifier=checkpoint", f"classifier.path={tmp_path / 'mine.pt'}", network]
    sizes_missing = (
        "classifier.num_classes, classifier.channels, classifier.image_size: must be given"
    )
    assert refusal(load_classifier, config(*npz, *named)).startswith(sizes_missing)
    sizes = ["classifier.num_classes=5", "classifier.channels=3", "classifier.image_size=20"]
    frozen = load_classifier(config(*npz, *named, *sizes, "classifier.mean=[0.1,0.2,0.3]"))
    assert same(frozen.network, mine)
    assert (frozen.spec.mean, frozen.spec.std, frozen.spec.class_names) == (
        (0.1, 0.2, 0.3),
        (1.0, 1.0, 1.0),
        tuple("01234"),
    )
    frozen = load_classifier(config(*npz, *named, *sizes))
    # Without statistics there is no normalisation.
    torch.testing.assert_close(frozen(torch.ones(2, 3, 20, 20)), mine(torch.ones(2, 3, 20, 20)))


def test_a_network_of_torchvision_is_given_by_its_function(tmp_path: Path) -> None:
    torch.manual_seed(0)
    resnet = torchvision.models.resnet18(weights=None, num_classes=7)
    torch.save(resnet.state_dict(), tmp_path / "resnet.pt")
    named = [
        "data=cifar10",
        "classifier=checkpoint",
        f"classifier.path={tmp_path / 'resnet.pt'}",
        "classifier.num_classes=7",
    ]
    network = "+classifier.network={_target_: torchvision.models.resnet18, num_classes: "
    frozen = load_classifier(config(*named, network + "7}"))
    assert same(frozen.network, resnet)
    assert frozen.spec.class_names == tuple("0123456")
    assert "num_classes" in refusal(load_classifier, config(*named, network + "6}"))


def test_overrides_have_priority_over_the_card(saved: Path) -> None:
    named = ["classifier=checkpoint", f"classifier.path={saved}"]
    layers = "classifier.feature_layers=[convolutions]"
    frozen = load_classifier(
        config(*named, "classifier.mean=[0,0,0]", "classifier.std=[2,2,2]", layers)
    )
    assert (frozen.spec.mean, frozen.spec.std) == ((0, 0, 0), (2, 2, 2))
    x_BCHW = torch.rand(2, 3, 32, 32)
    logits_BN, features = frozen.logits_and_features(x_BCHW)
    torch.testing.assert_close(logits_BN, small().eval()(x_BCHW / 2))
    assert {name: tuple(feature.shape) for name, feature in features.items()} == {
        "convolutions": (2, 4 * 8 * 8)
    }
    assert "classifier.num_classes" in refusal(
        load_classifier, config(*named, "classifier.num_classes=7")
    )
    assert "classifier.num_classes=1: must be 2 or more" in refusal(
        load_classifier, config(*named, "classifier.num_classes=1")
    )
    assert "classifier.mean=[0.5]" in refusal(
        load_classifier, config(*named, "classifier.mean=[0.5]")
    )


@pytest.mark.parametrize("nested", [False, True])
def test_a_card_cannot_name_code_that_is_executed(
    nested: bool, saved: Path, tmp_path: Path
) -> None:
    target = tmp_path / "made by the card"
    attack = {"_target_": "os.makedirs", "name": str(target)}
    save_classifier(
        saved, small(), {**CARD, "network": {**SMALL, "dropout": attack} if nested else attack}
    )
    refusal(load_classifier, config("classifier=checkpoint", f"classifier.path={saved}"))
    assert not target.exists()


@pytest.mark.parametrize(
    "damage",
    [
        {"data": None},
        {"data": {"name": "x"}},
        {"data": {**CARD["data"], "extra": 1}},
        {"network": "CNN"},
    ],
)
def test_a_card_with_invalid_fields_gives_one_line(damage: dict[str, object], saved: Path) -> None:
    save_classifier(saved, small(), {**CARD, **damage})
    refusal(load_classifier, config("classifier=checkpoint", f"classifier.path={saved}"))


def test_a_path_is_not_ignored_in_favour_of_the_zoo(saved: Path) -> None:
    # The default is classifier=zoo.
    message = refusal(load_classifier, config("data=mnist", f"classifier.path={saved}"))
    assert re.search("classifier.zoo=mnist_cnn.*classifier=checkpoint", message)


def test_missing_weights_give_a_line_with_remedies() -> None:
    assert re.search(
        "classifier=zoo.*application=train_classifier",
        refusal(load_classifier, config("classifier=cnn")),
    )
