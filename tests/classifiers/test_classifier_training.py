"""Training a classifier the ordinary way: batches, recipe, card (A1-2, A2-13, A2-14, A7-3, A7-5)."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from safetensors.torch import load_file
from torch import Tensor, nn

from netinv_lightning.applications import make_application
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.checkpoints import sha256
from netinv_lightning.classifiers.frozen import Classifier
from netinv_lightning.classifiers.networks import CNN, MLP, ResNet, ViT
from netinv_lightning.classifiers.training import ClassifierModule
from netinv_lightning.config.schema import CONF, register
from netinv_lightning.data.datamodule import Batches, ImageDataModule
from netinv_lightning.data.datasets import mnist5k
from netinv_lightning.data.specs import CIFAR10, DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.run import run

SMALL = ["classifier=cnn", "+classifier.network.stages=[[8],[16]]", "+classifier.network.hidden=32"]


def config(*overrides: str) -> DictConfig:
    register()
    machine = ["trainer.accelerator=cpu", "trainer.precision=32-true"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=["application=train_classifier", *machine, *overrides])


# A whole run


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


def test_the_card_says_what_the_classifier_is(trained: tuple[Path, dict[str, float]]) -> None:
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
    assert accuracy == pytest.approx(metrics["classifier/test_accuracy"], abs=0.0011)  # one image


def test_training_accuracy_is_of_the_images_as_they_are(
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
    assert accuracy == pytest.approx(metrics["classifier/train_accuracy"], abs=0.0003)  # one image


def test_weights_that_are_there_are_replaced_only_when_that_is_asked_for_and_the_card_is_in_numbers(
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
        match=r"mine.safetensors: is there already; give another name, or application.overwrite=true$",
    ):
        run(config(*few, "seed=1"), tmp_path / "second")
    assert sha256(tmp_path / "mine.safetensors") == first
    run(config(*few, "seed=1", "application.overwrite=true"), tmp_path / "second")
    assert sha256(tmp_path / "mine.safetensors") != first


def test_the_same_seed_gives_the_same_weights_bit_by_bit_and_another_seed_others(
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
        torch.rand(7)  # what a job drew before does not matter
    assert hashes[0] == hashes[1] != hashes[2]
    card = json.loads((tmp_path / "0" / "classifier.json").read_text())
    assert (card["training_images"], card["test_images"], card["data"]["num_classes"]) == (
        49,
        6,
        3,
    )  # 60 less 6 for testing less 5 for validation


@pytest.mark.parametrize(
    "wrong",
    [
        *["recipe.optimizer=adam", "recipe.label_smoothing=1.5", "recipe.warmup=2", "recipe.l1=-1"],
        *["recipe.momentum=-0.5", "recipe.weight_decay=-1", "recipe.epochs=0", "recipe.lr=0"],
        "data.subset_size=1",
    ],
)
def test_a_wrong_recipe_is_one_line_before_anything_is_written(wrong: str, tmp_path: Path) -> None:
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


# The recipe


def module(network: type[nn.Module] = CNN, **recipe: Any) -> ClassifierModule:
    torch.manual_seed(0)
    without_dropout = {} if network is ResNet else {"dropout": 0.0}
    made = ClassifierModule(Classifier(network(10, 3, 32, **without_dropout), CIFAR10), **recipe)
    made.log = lambda *args, **kwargs: None
    return made


def loss(**recipe: Any) -> Tensor:
    batch = (
        torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1)),
        torch.tensor([0, 1, 2, 3, 4, 9]),
    )
    return module(MLP, **recipe).training_step(batch, 0)


def test_label_smoothing_is_its_closed_form() -> None:
    made = module(MLP)
    x_BCHW, y_B = (
        torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1)),
        torch.tensor([0, 1, 2, 3, 4, 9]),
    )
    logp_BN = F.log_softmax(made.classifier(x_BCHW), dim=1)
    right, uniform = -logp_BN[torch.arange(6), y_B].mean(), -logp_BN.mean()
    for smoothing in (0.0, 0.1, 0.4):
        torch.testing.assert_close(
            loss(label_smoothing=smoothing), (1 - smoothing) * right + smoothing * uniform
        )


def test_l1_adds_the_sum_of_absolute_weights() -> None:
    made = module(MLP)
    weights = [layer.weight for layer in made.modules() if isinstance(layer, nn.Linear)]
    norm = sum(weight.abs().sum() for weight in weights)
    torch.testing.assert_close(loss(l1=0.01) - loss(), 0.01 * norm, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("network", [CNN, MLP, ResNet, ViT])
@pytest.mark.parametrize(
    ("optimizer", "cls"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)]
)
def test_weight_decay_is_on_weights_and_kernels_alone(
    network: type[nn.Module], optimizer: str, cls: type
) -> None:
    made = module(network, optimizer=optimizer, lr=0.2, weight_decay=0.03)
    made.trainer = SimpleNamespace(estimated_stepping_batches=10)
    made_optimizer = made.configure_optimizers()["optimizer"]
    assert type(made_optimizer) is cls
    decay = {
        id(parameter): group["weight_decay"]
        for group in made_optimizer.param_groups
        for parameter in group["params"]
    }
    assert (
        sum(len(group["params"]) for group in made_optimizer.param_groups)
        == len(decay)
        == len(list(made.classifier.parameters()))
    )
    for layer in made.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            if name == "bias" or isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)):
                assert decay[id(parameter)] == 0.0
            elif isinstance(layer, (nn.Linear, nn.Conv2d)):
                assert decay[id(parameter)] == 0.03


@pytest.mark.parametrize("warmup", [0.25, 0.6])
def test_the_learning_rate_rises_for_the_warmup_and_falls_to_nothing(warmup: float) -> None:
    made = module(lr=0.2, warmup=warmup)
    made.trainer = SimpleNamespace(estimated_stepping_batches=100)
    schedule = made.configure_optimizers()
    rates = []
    for _ in range(100):
        rates.append(schedule["optimizer"].param_groups[0]["lr"])
        schedule["optimizer"].step()
        schedule["lr_scheduler"]["scheduler"].step() if len(rates) < 100 else None
    assert schedule["lr_scheduler"]["interval"] == "step"
    assert max(rates) == pytest.approx(0.2)
    assert rates.index(max(rates)) == pytest.approx(100 * warmup, abs=2)
    assert (rates[0], rates[-1]) == (pytest.approx(0.2 / 25), pytest.approx(0.0, abs=1e-4))


class Reader(nn.Module):
    """Reads the label that the first pixel says."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.one_hot((x_BCHW[:, 0, 0, 0] * 255).round().long(), 3).float()


def test_test_accuracy_counts_images_not_batches() -> None:
    spec = DataSpec("tiny", 3, 1, 2, (0.0,), (1.0,), ("a", "b", "c"))
    made = ClassifierModule(Classifier(Reader(), spec))
    images = (torch.tensor([0, 1, 2, 0, 1])[:, None, None, None] / 255).expand(-1, 1, 2, 2)
    batches = Batches((images, torch.tensor([0, 1, 2, 0, 2])), 4, shuffle=False)
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    assert trainer.test(made, batches, verbose=False) == [
        {"classifier/test_accuracy": pytest.approx(4 / 5)}
    ]


# Batches


def test_batches_give_every_image_once_an_epoch_in_a_new_order_under_the_global_seed() -> None:
    split = torch.arange(11)[:, None], torch.arange(11) + 100

    def epochs(seed: int) -> list[list[int]]:
        torch.manual_seed(seed)
        batches = Batches(split, 4, shuffle=True)
        return [[int(label) for _, labels in batches for label in labels] for _ in range(3)]

    assert [len(labels) for _, labels in Batches(split, 4, shuffle=False)] == [4, 4, 3]
    assert [len(labels) for _, labels in Batches(split, 4, shuffle=False, drop_last=True)] == [4, 4]
    assert [len(Batches(split, size, shuffle=False, drop_last=True)) for size in (4, 11, 12)] == [
        2,
        1,
        1,
    ]  # never none
    assert all(sorted(epoch) == list(range(100, 111)) for epoch in epochs(0))
    assert all(
        torch.equal(images[:, 0] + 100, labels)
        for images, labels in Batches(split, 4, shuffle=True)
    )
    assert len({tuple(epoch) for epoch in epochs(0) + epochs(1)}) == 6
    assert epochs(0) == epochs(0)


@pytest.mark.parametrize(
    ("stage", "augmented"),
    [("training", True), ("validating", False), ("testing", False), ("predicting", False)],
)
def test_batches_reach_the_model_in_zero_to_one_and_augmented_in_training_alone(
    stage: str, augmented: bool, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    np.savez(tmp_path / "mine.npz", X=images, y=np.arange(40) % 2)
    data = ImageDataModule("npz", path=str(tmp_path / "mine.npz"), shift=2, flip=True)
    data.trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False
    )
    setattr(data.trainer, stage, True)
    batch = torch.from_numpy(images)[:, None], torch.arange(40)
    moved, labels = data.on_after_batch_transfer(batch, 0)
    assert (moved.dtype, moved.shape, moved.min(), moved.max()) == (
        torch.float32,
        (40, 1, 8, 8),
        0,
        1,
    )
    assert torch.equal(labels, batch[1])
    kept = (moved == batch[0] / 255).flatten(1).all(dim=1)
    assert kept.sum() < 20 if augmented else kept.all()
