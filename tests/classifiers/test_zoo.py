"""The zoo: weights, model cards and the numbers on the cards."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from experiments.any_classifier import data_sets
from netinv_lightning.classifiers import zoo
from netinv_lightning.classifiers.build import load_classifier, load_zoo
from netinv_lightning.classifiers.checkpoints import sha256
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.registration import CONF, register
from netinv_lightning.data import datasets as sources
from netinv_lightning.data.specs import SPECS, DataSpec
from netinv_lightning.data.user_files import read_own
from netinv_lightning.errors import InputError

ROOT = os.environ.get("NETINV_DATA", "")
PLACES = {
    "mnist": "MNIST/raw",
    "fashion_mnist": "FashionMNIST/raw",
    "svhn_head": "test_32x32.head.mat",
    "cifar10": "cifar-10-batches-py",
    "mnist14": "MNIST/raw",
}
FLOORS = {
    "mnist_cnn": 0.990,
    "fashion_mnist_cnn": 0.910,
    "svhn_head_cnn": 0.850,
    "cifar10_cnn": 0.880,
}
MODALITIES = {"wine": "tables", "cylinder_bell_funnel": "signals"}
"""Data sets that are made here."""
NAMES = zoo.zoo_names()


def card(name: str) -> dict:
    return json.loads((zoo.ZOO / f"{name}.json").read_text())


def config(*overrides: str) -> DictConfig:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


@cache
def held_out(data: str) -> tuple[Tensor, Tensor]:
    if data in sources.LOADERS:
        return sources.LOADERS[data](Path(ROOT), False)
    with TemporaryDirectory() as folder:
        data_sets.FILES[f"{data}.npz"](path := Path(folder) / f"{data}.npz")
        return read_own("npz", path, None, modality=MODALITIES[data]).test


def in_unit_range(x: Tensor, spec: DataSpec) -> Tensor:
    """Return inputs in [0, 1]; signals and tables are stored in their own units."""
    if x.dtype == torch.uint8:
        return x.float() / 255
    low_C, high_C = torch.tensor(spec.limits).view(-1, 2, *[1] * (x.dim() - 2)).unbind(dim=1)
    return (x - low_C) / (high_C - low_C)


def accuracy(classifier: FrozenClassifier, images: Tensor, labels: Tensor) -> float:
    classifier = classifier.to(memory_format=torch.channels_last)
    right = 0
    with torch.inference_mode():
        for x_B, y_B in zip(images.split(125), labels.split(125), strict=True):
            x_B = in_unit_range(x_B, classifier.spec)
            if x_B.dim() == 4:
                x_B = x_B.contiguous(memory_format=torch.channels_last)
            right += int((classifier(x_B).argmax(dim=1) == y_B).sum())
    return right / len(labels)


@pytest.mark.parametrize("name", NAMES)
def test_every_classifier_loads_and_fits_its_card(name: str) -> None:
    stated = card(name)
    assert stated["sha256"] == sha256(zoo.ZOO / f"{name}.safetensors")
    assert stated["name"] == name
    if (data := stated["data"]["name"]) in SPECS:
        assert stated["data"] == SPECS[data].as_dict()
    classifier = load_zoo(name)
    assert sum(parameter.numel() for parameter in classifier.parameters()) == stated["parameters"]
    assert all(bool(tensor.isfinite().all()) for tensor in classifier.state_dict().values())
    spec = classifier.spec
    logits_BN, features = classifier.logits_and_features(torch.rand(3, *spec.shape))
    assert logits_BN.shape == (3, spec.num_classes)
    assert features["penultimate"].shape[0] == 3


@pytest.mark.parametrize("name", NAMES)
def test_every_card_states_the_recipe_of_its_experiment(name: str) -> None:
    stated, cfg = card(name), config(f"+experiment=zoo/{name}")
    trained, data = (
        OmegaConf.to_container(cfg[group], resolve=True) for group in ("recipe", "data")
    )
    assert Path(cfg.application.save_as).stem == name
    name_of_data = Path(data["path"]).stem if data["name"] == "npz" else data["name"]
    assert (stated["seed"], stated["data"]["name"], stated["network"]) == (
        cfg.seed,
        name_of_data,
        OmegaConf.to_container(cfg.classifier.network),
    )
    recipe = {**data, **trained}
    assert stated["recipe"] == {key: recipe[key] for key in stated["recipe"]}
    assert {
        "epochs",
        "optimizer",
        "lr",
        "weight_decay",
        "l1",
        "label_smoothing",
        "batch_size",
        "shift",
        "flip",
    } <= set(stated["recipe"])


@pytest.mark.parametrize("name", NAMES)
def test_the_accuracy_on_the_card_is_reproduced_on_the_test_split(name: str) -> None:
    data = card(name)["data"]["name"]
    if data in PLACES and not ROOT:
        pytest.skip("NETINV_DATA is not set: it names the folder of the real data sets")
    if data in PLACES and not (Path(ROOT) / PLACES[data]).exists():
        pytest.skip(f"NETINV_DATA={ROOT} holds no {data}")
    images, labels = held_out(data)
    stated = card(name)
    assert stated["test_images"] == len(labels)
    # An MLP classifies all images; another network as many as 1.5 points of accuracy need.
    all_images = stated["network"]["_target_"].endswith(".MLP") or len(labels) < 3000
    every, tolerance = (1, 5e-4) if all_images else (5, 0.015)
    found = accuracy(load_zoo(name), images[::every], labels[::every])
    assert found == pytest.approx(stated["test_accuracy"], abs=tolerance)


@pytest.mark.parametrize("name", [name for name in FLOORS if name in NAMES])
def test_the_cnns_of_the_papers_reach_their_minimum_accuracy(name: str) -> None:
    assert card(name)["test_accuracy"] >= FLOORS[name]


def test_the_zoo_is_small_and_every_file_has_a_card() -> None:
    files = [path for path in zoo.ZOO.iterdir() if path.suffix != ".partial"]
    assert {path.suffix for path in files} == {".safetensors", ".json"}
    assert set(Counter(path.stem for path in files).values()) == {2}
    assert sum(path.stat().st_size for path in files) <= 16 * 2**20


def test_classifiers_of_a_data_set_differ_in_network_and_seed() -> None:
    cards = [card(name) for name in NAMES]
    for key in ("seed", "network"):
        value = [(stated["data"]["name"], json.dumps(stated[key])) for stated in cards]
        assert len(set(value)) == len(value)


def test_the_default_classifier_is_the_cnn_and_needs_no_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        sources,
        "torchvision_set",
        lambda *args, **kwargs: pytest.fail("the data set was opened"),
    )
    monkeypatch.setenv("NETINV_DATA", str(tmp_path))
    classifier = load_classifier(config("data=mnist"))
    assert classifier.spec == SPECS["mnist"]
    stored, loaded = load_zoo("mnist_cnn").state_dict(), classifier.state_dict()
    assert all(torch.equal(stored[name], loaded[name]) for name in stored)


def test_an_unknown_name_suggests_the_closest_match() -> None:
    for call in (
        lambda: load_zoo("mnist_cn"),
        lambda: load_classifier(config("classifier.zoo=mnist_cn")),
    ):
        with pytest.raises(
            InputError, match=r"^classifier\.zoo=mnist_cn: .*did you mean 'mnist_cnn'\?$"
        ):
            call()


def test_a_damaged_zoo_gives_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for suffix in (".safetensors", ".json"):
        shutil.copy(zoo.ZOO / f"mnist_cnn{suffix}", tmp_path)
    monkeypatch.setattr(zoo, "ZOO", tmp_path)
    weights = tmp_path / "mnist_cnn.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 4
    weights.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        load_zoo("mnist_cnn")
    (tmp_path / "mnist_cnn.json").unlink()
    with pytest.raises(
        InputError, match=r"^classifier\.zoo=mnist_cnn: its model card mnist_cnn\.json is"
    ):
        load_zoo("mnist_cnn")
