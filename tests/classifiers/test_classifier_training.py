"""Training a classifier: batches, recipe and model card."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from safetensors.torch import load_file

from netinv_lightning.applications import make_application
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.checkpoints import sha256
from netinv_lightning.config.registration import CONF, register
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.datasets import mnist5k
from netinv_lightning.errors import InputError
from netinv_lightning.run import run

SMALL = ["classifier=cnn", "+classifier.network.stages=[[8],[16]]", "+classifier.network.hidden=32"]


def config(*overrides: str) -> DictConfig:
    register()
    machine = ["trainer.accelerator=cpu", "trainer.precision=32-true"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=["application=train_classifier", *machine, *overrides])


# A complete run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    job_dir = tmp_path_factory.mktemp("training") / "run"
    recipe = ["recipe.epochs=2", "recipe.lr=0.05", "data.batch_size=100"]
    return job_dir, run(config("data=mnist5k", *SMALL, *recipe, "seed=0"), job_dir)


def test_two_epochs_on_the_embedded_digits_reach_ninety_percent(
    trained: tuple[Path, dict[str, float]],
) -> None:
    job_dir, metrics = trained
    assert metrics["classifier/test_accuracy"] > 0.9
    assert metrics["classifier/val_accuracy"] > 0.9
    assert json.loads((job_dir / "summary.json").read_text()) == metrics
    status = json.loads((job_dir / "status.json").read_text())
    assert (status["state"], status["best_metric"]) == ("done", metrics["classifier/test_accuracy"])
    split = load_file(job_dir / "split.safetensors")
    assert sorted([*split["train"].tolist(), *split["val"].tolist()]) == list(range(4000))
    assert len(split["val"]) == 400


def test_the_card_describes_the_classifier(trained: tuple[Path, dict[str, float]]) -> None:
    job_dir, metrics = trained
    card = json.loads((job_dir / "classifier.json").read_text())
    network = {
        "_target_": "netinv_lightning.classifiers.networks.CNN",
        "stages": [[8], [16]],
        "hidden": 32,
    }
    assert (card["name"], card["network"], card["seed"]) == ("classifier", network, 0)
    assert (card["data"]["name"], card["data"]["num_classes"], card["data"]["mean"]) == (
        "mnist5k",
        10,
        [0.1307],
    )
    assert (card["training_images"], card["test_images"]) == (3600, 1000)
    assert card["test_accuracy"] == round(metrics["classifier/test_accuracy"], 4)
    assert (
        card["parameters"]
        == (9 + 2) * 8 + (8 * 9 + 2) * 16 + 16 * 7 * 7 * 32 + 2 * 32 + 32 * 10 + 10
    )
    assert card["sha256"] == sha256(job_dir / "classifier.safetensors")
    stated = {
        "epochs": 2,
        "optimizer": "sgd",
        "lr": 0.05,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "l1": 0.0,
        "label_smoothing": 0.1,
    }
    data = {
        "batch_size": 100,
        "val_fraction": 0.1,
        "subset_size": None,
        "split_seed": 0,
        "shift": 0,
        "flip": False,
    }
    assert {**stated, **data, "warmup": 0.25}.items() <= card["recipe"].items()


def test_the_saved_classifier_reproduces_its_stated_accuracy(
    trained: tuple[Path, dict[str, float]],
) -> None:
    job_dir, metrics = trained
    frozen = load_classifier(
        config(
            "data=mnist5k",
            "classifier=checkpoint",
            f"classifier.path={job_dir / 'classifier.safetensors'}",
        )
    )
    images, labels = mnist5k(Path("."), False)
    with torch.inference_mode():
        accuracy = (frozen(images.float() / 255).argmax(dim=1) == labels).double().mean().item()
    # tolerance of one image
    assert accuracy == pytest.approx(metrics["classifier/test_accuracy"], abs=0.0011)


def test_training_accuracy_is_measured_without_augmentation(
    trained: tuple[Path, dict[str, float]],
) -> None:
    job_dir, metrics = trained
    frozen = load_classifier(
        config(
            "data=mnist5k",
            "classifier=checkpoint",
            f"classifier.path={job_dir / 'classifier.safetensors'}",
        )
    )
    images, labels = ImageDataModule("mnist5k").train
    with torch.inference_mode():
        accuracy = (frozen(images.float() / 255).argmax(dim=1) == labels).double().mean().item()
    # tolerance of one image
    assert accuracy == pytest.approx(metrics["classifier/train_accuracy"], abs=0.0003)


def test_weights_are_overwritten_only_on_request(
    tmp_path: Path,
) -> None:
    few = [
        "data=mnist5k",
        "data.subset_size=40",
        "data.batch_size=${data.subset_size}",
        "recipe.epochs=1",
        *SMALL,
    ]
    few += [f"application.save_as={tmp_path / 'mine.safetensors'}"]
    run(config(*few), tmp_path / "first")
    first = sha256(tmp_path / "mine.safetensors")
    assert json.loads((tmp_path / "mine.json").read_text())["recipe"]["batch_size"] == 40
    with pytest.raises(
        InputError,
        match=(
            r"mine.safetensors: exists already. Give another name, "
            r"or set application.overwrite=true$"
        ),
    ):
        run(config(*few, "seed=1"), tmp_path / "second")
    assert sha256(tmp_path / "mine.safetensors") == first
    run(config(*few, "seed=1", "application.overwrite=true"), tmp_path / "second")
    assert sha256(tmp_path / "mine.safetensors") != first


def test_weights_depend_on_the_seed_only(
    tmp_path: Path,
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", X=images, y=np.arange(60) % 3)
    own = [
        "data=npz",
        f"data.path={tmp_path / 'mine.npz'}",
        "data.batch_size=8",
        "data.shift=1",
        "recipe.epochs=1",
    ]
    hashes = []
    for job, seed in enumerate((1, 1, 2)):
        run(config(*own, *SMALL, f"seed={seed}"), tmp_path / str(job))
        hashes.append(sha256(tmp_path / str(job) / "classifier.safetensors"))
        torch.rand(7)  # earlier draws of a job have no effect
    assert hashes[0] == hashes[1] != hashes[2]
    card = json.loads((tmp_path / "0" / "classifier.json").read_text())
    # Of 60 images, 6 are for testing and 5 for validation.
    assert (card["training_images"], card["test_images"], card["data"]["num_classes"]) == (
        49,
        6,
        3,
    )


@pytest.mark.parametrize(
    "wrong",
    [
        *["recipe.optimizer=adam", "recipe.label_smoothing=1.5", "recipe.warmup=2", "recipe.l1=-1"],
        *["recipe.momentum=-0.5", "recipe.weight_decay=-1", "recipe.epochs=0", "recipe.lr=0"],
        "data.subset_size=1",
    ],
)
def test_an_invalid_recipe_gives_one_line_and_writes_nothing(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run(
            config("data=mnist5k", *SMALL, "recipe.epochs=1", "data.subset_size=300", wrong),
            tmp_path / "run",
        )
    assert str(caught.value).startswith(wrong.split("=")[0])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_without_a_network_to_train_the_choices_are_named() -> None:
    with pytest.raises(InputError, match=r"classifier\.network: .*classifier=cnn"):
        make_application(config("data=mnist5k", "classifier=zoo"))
