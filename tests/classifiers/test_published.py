"""Weights for networks of torchvision and timm, with what is published about them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

import netinv_lightning
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.published import published_facts
from netinv_lightning.errors import InputError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def saved(network: nn.Module, path: Path) -> Path:
    save_file(network.state_dict(), path)
    return path


def loaded(*overrides: str) -> FrozenClassifier:
    return load_classifier(netinv_lightning.compose(list(overrides)))


def test_torchvision_weights_bring_their_preprocessing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1().eval()
    path = saved(network, tmp_path / "s.safetensors")
    frozen = loaded(
        "classifier=torchvision",
        "classifier.network.name=squeezenet1_1",
        f"classifier.path={path}",
        "classifier.image_size=64",
    )
    assert (frozen.spec.mean, frozen.spec.std) == (MEAN, STD)
    assert (frozen.spec.num_classes, frozen.spec.image_size) == (1000, 64)
    assert frozen.spec.class_names[:2] == ("tench", "goldfish")
    x_BCHW = torch.rand(2, 3, 64, 64)
    normalised = (x_BCHW - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    assert torch.equal(frozen(x_BCHW), network(normalised))


def test_weights_for_other_classes_use_the_data(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1(num_classes=10)
    path = saved(network, tmp_path / "s.safetensors")
    named = ["classifier=torchvision", "classifier.network.name=squeezenet1_1"]
    frozen = loaded("data=cifar10", *named, f"classifier.path={path}")
    assert (frozen.spec.name, frozen.spec.image_size) == ("cifar10", 32)
    assert frozen.spec.mean == (0.4914, 0.4822, 0.4465)
    with pytest.raises(InputError, match=r"classifier\.channels, classifier\.image_size: must be"):
        loaded("data=cifar100", *named, f"classifier.path={path}")


def test_torchvision_weights_are_found_by_the_name_of_their_file() -> None:
    network = {"_target_": "torchvision.models.get_model", "name": "vit_b_16"}
    assert published_facts(network, "vit_b_16_swag-9ac1b537.pth")["image_size"] == 384
    assert published_facts(network, "vit_b_16-c867db91.pth")["image_size"] == 224
    assert published_facts({**network, "weights": "IMAGENET1K_SWAG_E2E_V1"})["image_size"] == 384
    assert published_facts({**network, "name": "nothing"}) == {}


@pytest.mark.parametrize("key", ["name", "model_name"])
def test_both_keys_name_a_network_of_timm(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    timm = pytest.importorskip("timm", reason="skipped: needs the extra timm")
    torch.manual_seed(0)
    network = timm.create_model("test_resnet").eval()
    path = saved(network, tmp_path / "t.safetensors")
    frozen = loaded(
        "classifier=timm", f"classifier.network.{key}=test_resnet", f"classifier.path={path}"
    )
    published = network.pretrained_cfg
    assert (frozen.spec.mean, frozen.spec.std) == (published["mean"], published["std"])
    assert frozen.spec.shape == tuple(published["input_size"])
    x_BCHW = torch.rand(2, *frozen.spec.shape)
    normalised = (x_BCHW - frozen.mean_C11) / frozen.std_C11
    assert torch.equal(frozen(x_BCHW), network(normalised))
    said = "classifier.network.model_name: is now classifier.network.name"
    assert (said in capsys.readouterr().err) == (key == "model_name")


def test_grey_weights_of_timm_are_recognised(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="skipped: needs the extra timm")
    network = timm.create_model("test_resnet", in_chans=1, num_classes=10).eval()
    path = saved(network, tmp_path / "t.safetensors")
    frozen = loaded(
        "data=mnist", "classifier=timm", "classifier.network.name=test_resnet",
        f"classifier.path={path}",
    )  # fmt: skip
    assert (frozen.spec.name, frozen.spec.mean) == ("mnist", (0.1307,))


@pytest.mark.parametrize("name", ["hf-hub:someone/net", "local-dir:/tmp/net"])
def test_timm_downloads_nothing(name: str, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="skipped: needs the extra timm")
    path = saved(nn.Linear(2, 2), tmp_path / "t.safetensors")
    with pytest.raises(
        InputError, match=r"nothing is downloaded\. For a folder of the hub: classif"
    ):
        loaded("classifier=timm", f"classifier.network.name='{name}'", f"classifier.path={path}")
