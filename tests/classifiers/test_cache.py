"""A classifier is trained once: kept by the hash of all that determines it, whole or not at all."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
from dataclasses import fields
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file

import netinv_lightning
from netinv_lightning.classifiers import cache as kept
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.cache import determined_by, kept_card, kept_path, train_once
from netinv_lightning.classifiers.checkpoints import sha256
from netinv_lightning.config.schema import Recipe
from netinv_lightning.data import datasets as sources
from netinv_lightning.errors import InputError
from netinv_lightning.run import run
from tests.conftest import FEW_STEPS

CPU = ["trainer.accelerator=cpu", "trainer.precision=32-true"]
NETWORK = ["classifier=mlp", "+classifier.network.widths=[16]"]
DATA = ["data=mnist5k", "data.subset_size=400", "data.batch_size=50"]
RECIPE = ["recipe.epochs=1", "recipe.lr=0.05"]
SECONDS = "cost/classifier_training_seconds"
ACCURACY = "classifier/test_accuracy"


digits = cache(sources.mnist5k)  # read once for all tests


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where classifiers are kept, as a user's environment says it."""
    monkeypatch.setenv("NETINV_CLASSIFIERS", str(tmp_path / "kept"))
    monkeypatch.setitem(sources.LOADERS, "mnist5k", digits)
    return tmp_path / "kept"


def config(*overrides: str) -> DictConfig:
    return netinv_lightning.compose(
        [*CPU, *NETWORK, *DATA, *RECIPE, "classifier.train=true", *overrides]
    )


def trained(*overrides: str) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Weights and metrics of the classifier that the overrides ask for."""
    cfg = config(*overrides)
    classifier = load_classifier(cfg)
    metrics = train_once(cfg, classifier)
    return classifier.network.state_dict(), metrics


def equal(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return some.keys() == others.keys() and all(
        torch.equal(some[name], others[name]) for name in some
    )


def test_the_second_time_it_is_loaded_and_no_data_set_is_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, metrics = trained()
    assert metrics[ACCURACY] > 0.3
    assert metrics[SECONDS] > 0
    path = kept_path(config())
    assert path.parent.name.startswith("mnist5k_mlp_")
    assert equal(load_file(path), weights)
    monkeypatch.setitem(
        sources.LOADERS, "mnist5k", lambda root, train: pytest.fail("the data set was opened")
    )
    assert equal(load_classifier(config()).network.state_dict(), weights)
    again, told = trained()
    assert equal(again, weights)
    assert told == {ACCURACY: metrics[ACCURACY]}
    assert len(list(folder.glob("*/classifier.json"))) == 1


def test_a_run_can_be_loaded_when_the_kept_one_is_gone(folder: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    overrides = [*FEW_STEPS, *NETWORK, *DATA, *RECIPE, "classifier.train=true"]
    run(netinv_lightning.compose(overrides), run_dir)
    kept = load_file(next(folder.glob("*/classifier.safetensors")))
    shutil.rmtree(folder)
    assert equal(netinv_lightning.load_run(run_dir).classifier.network.state_dict(), kept)


def test_making_trains_and_writes_nothing(folder: Path) -> None:
    before = load_classifier(config())
    assert not folder.exists()
    untrained = {name: tensor.clone() for name, tensor in before.network.state_dict().items()}
    train_once(config(), before)
    assert not equal(before.network.state_dict(), untrained)
    assert not before.training
    assert not any(parameter.requires_grad for parameter in before.parameters())


def test_without_train_nothing_is_done(folder: Path) -> None:
    cfg = netinv_lightning.compose(["data=mnist"])
    classifier = load_classifier(cfg)
    weights = {name: tensor.clone() for name, tensor in classifier.network.state_dict().items()}
    assert train_once(cfg, classifier) == {}
    assert equal(classifier.network.state_dict(), weights)
    assert not folder.exists()


def test_it_is_the_classifier_that_train_classifier_trains(tmp_path: Path) -> None:
    weights, metrics = trained("seed=3")
    overrides = [*CPU, *NETWORK, *DATA, *RECIPE, "application=train_classifier", "seed=3"]
    alone = run(netinv_lightning.compose(overrides), tmp_path / "run")
    assert equal(load_file(tmp_path / "run" / "classifier.safetensors"), weights)
    assert metrics[ACCURACY] == round(alone[ACCURACY], 4)
    card, of_kept = (
        json.loads((tmp_path / "run" / "classifier.json").read_text()),
        kept_card(kept_path(config("seed=3"))),
    )
    assert of_kept is not None
    assert card == {key: of_kept[key] for key in card}
    facts = determined_by(config("seed=3"))
    assert of_kept["determined_by"] == facts
    assert facts["recipe"]["seed"] == 3
    assert of_kept["hash"].startswith(kept_path(config("seed=3")).parent.name.rpartition("_")[2])


def test_its_training_leaves_all_randomness_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "11")
    cfg = config("recipe.seed=5")
    for step in (lambda: load_classifier(cfg), lambda: train_once(cfg, load_classifier(cfg))):
        states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        step()
        assert torch.equal(torch.get_rng_state(), states[0])
        assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]
        assert os.environ["PL_GLOBAL_SEED"] == "11"


CHANGES = {
    **{
        "seed": 1,
        "recipe.seed": 1,
        "recipe.epochs": 2,
        "recipe.lr": 0.1,
        "recipe.optimizer": "adamw",
        "recipe.momentum": 0.8,
    },
    **{
        "recipe.weight_decay": 0,
        "recipe.l1": 0.1,
        "recipe.label_smoothing": 0,
        "recipe.warmup": 0.5,
        "recipe.channels_last": False,
    },
    **{
        "data.name": "mnist",
        "data.batch_size": 40,
        "data.subset_size": 300,
        "data.val_fraction": 0.2,
        "data.split_seed": 1,
    },
    **{
        "data.shift": 1,
        "data.flip": True,
        "classifier.mean": [0.5],
        "classifier.std": [0.5],
        "classifier.num_classes": 11,
    },
    **{
        "classifier.network._target_": "netinv_lightning.classifiers.networks.CNN",
        "classifier.network.widths": [17],
    },
    **{
        "classifier.network.dropout": 0.1,
        "trainer.precision": "bf16-mixed",
        "trainer.limit_train_batches": 3,
    },
    **{
        "trainer.max_epochs": 1,
        "trainer.max_steps": 3,
        "trainer.gradient_clip_val": 1,
        "trainer.limit_test_batches": 1,
    },
}
LEAVES = {
    **{
        "conditioning.mode": "label",
        "generator.hidden": 8,
        "application.steps": 3,
        "loss.kl.weight": 3,
        "perturbation.radius": 0.2,
    },
    **{
        "name": "other",
        "n_generators": 2,
        "output": "elsewhere",
        "sweep_output": "elsewhere",
        "resume": "runs/some",
        "recipe.seed": 0,
    },
    **{
        "logger.name": "wandb",
        "logger.tags.a": True,
        "classifier.feature_layers": [],
        "data.root": "elsewhere",
    },
    **{
        "trainer.devices": 2,
        "trainer.strategy": "ddp_spawn",
        "trainer.enable_progress_bar": False,
        "trainer.log_every_n_steps": 7,
    },
}


def test_its_place_changes_with_all_that_determines_it_and_with_nothing_else() -> None:
    cfg = config()
    before = kept_path(cfg)

    def moves(key: str, value: object) -> bool:
        changed = copy.deepcopy(cfg)
        OmegaConf.update(changed, key, value, force_add=True)
        assert OmegaConf.select(changed, key) == value
        return kept_path(changed) != before

    assert [key for key, value in CHANGES.items() if not moves(key, value)] == []
    assert [key for key, value in LEAVES.items() if moves(key, value)] == []
    assert {f"recipe.{field.name}" for field in fields(Recipe)} - set(CHANGES) == set()


def test_the_runs_seed_is_the_recipes_unless_it_has_its_own() -> None:
    assert kept_path(config("recipe.seed=4", "seed=1")) == kept_path(
        config("recipe.seed=4", "seed=2")
    )
    assert kept_path(config("seed=4")) == kept_path(config("recipe.seed=4", "seed=2"))


def test_another_version_of_torch_or_of_the_code_is_another_classifier(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = kept_path(config())
    version = metadata.version
    for package in ("torch", "netinv_lightning"):
        with monkeypatch.context() as patched:
            patched.setattr(
                metadata,
                "version",
                lambda name, package=package: "9.9" if name == package else version(name),
            )
            assert kept_path(config()) != before
    shutil.copytree(
        kept.PACKAGE, tmp_path / "copy", ignore=shutil.ignore_patterns("zoo_weights", "__pycache__")
    )
    monkeypatch.setattr(kept, "PACKAGE", tmp_path / "copy")
    assert kept_path(config()) == before
    networks = tmp_path / "copy" / "classifiers" / "networks.py"
    networks.write_text(networks.read_text() + "# changed\n")
    assert kept_path(config()) != before


def test_a_network_of_the_users_own_is_another_one_when_its_file_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_network.py").write_text(
        "from netinv_lightning.classifiers.networks import MLP as Mine\n\n\nclass Net(Mine):\n    pass\n"
    )
    own = ["classifier.network._target_=own_network.Net", "+classifier.network.num_classes=10"]
    before = kept_path(config(*own))
    assert before.parent.name.startswith("mnist5k_net_")
    (tmp_path / "own_network.py").write_text(
        (tmp_path / "own_network.py").read_text() + "    width = 3\n"
    )
    assert kept_path(config(*own)) != before


def save_images(path: Path, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (60, 28, 28), dtype=np.uint8)
    np.savez(path, X=images, y=np.arange(60) % 3)


def test_own_images_count_by_what_is_in_them(tmp_path: Path) -> None:
    for name, seed in (("mine.npz", 0), ("same.npz", 0), ("other.npz", 1)):
        save_images(tmp_path / name, seed)

    def facts(name: str, *overrides: str) -> dict:
        own = [
            "data=npz",
            f"data.path={tmp_path / name}",
            "data.subset_size=null",
            "data.batch_size=10",
        ]
        return determined_by(config(*own, *overrides))

    assert facts("mine.npz") == facts("same.npz") != facts("other.npz")
    assert facts("mine.npz") != facts("mine.npz", f"data.test_path={tmp_path / 'other.npz'}")
    assert facts("mine.npz") != facts("mine.npz", "data.image_size=14")


def test_an_image_folder_counts_by_its_images_and_their_classes(tmp_path: Path) -> None:
    for name in ("a/one.png", "a/two.png", "b/three.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(name.encode())

    def facts() -> dict:
        return determined_by(config("data=image_folder", f"data.path={tmp_path / 'images'}"))

    before = facts()
    (tmp_path / "images/a/two.png").rename(tmp_path / "images/b/two.png")
    moved = facts()
    (tmp_path / "images/b/two.png").write_bytes(b"changed")
    assert before != moved != facts() != before


def test_own_images_are_not_needed_to_load_but_to_hash(tmp_path: Path) -> None:
    save_images(tmp_path / "mine.npz", 0)
    own = [
        "data=npz",
        f"data.path={tmp_path / 'mine.npz'}",
        "data.subset_size=null",
        "data.batch_size=10",
        "data.val_fraction=0",
    ]
    weights, metrics = trained(*own)
    assert metrics.keys() == {
        SECONDS
    }  # no image was left for testing: there is no accuracy to tell
    made = load_classifier(config(*own))
    assert (made.spec.num_classes, made.spec.image_size, made.spec.name) == (3, 28, "mine")
    assert equal(made.network.state_dict(), weights)


@pytest.mark.parametrize("damage", ["weights", "short", "card", "no weights", "no card"])
def test_what_is_not_whole_is_trained_again_and_said(
    damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    weights, _ = trained()
    path = kept_path(config())
    card = path.with_suffix(".json")
    content = path.read_bytes()
    if damage == "weights":
        path.write_bytes(content[:-3] + bytes([content[-3] ^ 4]) + content[-2:])
    elif damage == "short":
        path.write_bytes(content[:1000])
    elif damage == "card":
        card.write_text(card.read_text()[:200])
    elif damage == "no weights":
        path.unlink()
    else:  # a kill between the weights and their card
        card.unlink()
        path.with_name(path.name + ".partial").write_bytes(content[:1000])
    capfd.readouterr()
    again, metrics = trained()
    assert SECONDS in metrics
    assert equal(again, weights)
    assert path.read_bytes() == content
    whole = kept_card(path)
    assert whole is not None
    assert whole["sha256"] == sha256(path)
    assert (f"{path} is damaged; it is trained again" in capfd.readouterr().err) == (
        damage != "no card"
    )


def test_weights_that_are_no_numbers_are_not_kept(folder: Path) -> None:
    cfg = config("recipe.lr=1e30")
    with pytest.raises(
        RuntimeError, match=r"is not finite after its training; lower recipe\.lr=1e\+30"
    ):
        train_once(cfg, load_classifier(cfg))
    assert list(folder.glob("*/*")) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["classifier=zoo"],
            r"^classifier\.train=true: classifier\.zoo=mnist5k_cnn names trained weights already; .*classifier=cnn",
        ),
        (
            ["classifier.path=x.safetensors"],
            r"^classifier\.train=true: classifier\.path=x\.safetensors names trained weights already",
        ),
        (
            ["application=train_classifier"],
            r"^classifier\.train=true: application=train_classifier trains it in any case",
        ),
        (
            ["classifier=checkpoint", "classifier.path=null"],
            r"^classifier\.network: choose a network to train",
        ),
        (["recipe.epochs=0"], r"^recipe\.epochs=0: must be 1 or more"),
        (["recipe.optimizer=adam"], r"^recipe\.optimizer=adam: did you mean 'adamw'"),
        (
            ["data=svhn_head", "data.root=nowhere"],
            r"^data\.root=nowhere: .*train_32x32\.head\.mat is not there",
        ),
        (["data=npz", "data.path=nowhere.npz"], r"^data\.path=nowhere\.npz: cannot be read"),
        (["data.subset_size=9999"], r"^data\.subset_size=9999: must be from 2 to 3600"),
        (["classifier.num_classes=7"], r"^classifier\.num_classes=7: the data have 10"),
        (["classifier.image_size=32"], r"^classifier\.image_size=32: the images have 28"),
        (
            ["classifier.feature_layers=[hed]"],
            r"^classifier\.feature_layers=hed: the network has no such layer",
        ),
        (
            ["classifier.network._target_=no.such.Network"],
            r"^classifier\.network: cannot be made: ",
        ),
        (
            ["classifier.network._target_=netinv_lightning.classifiers.networks.MPL"],
            r"cannot be made: netinv_lightning.classifiers.networks has no MPL; did you mean 'MLP'\?$",
        ),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(
    overrides: list[str], message: str, folder: Path
) -> None:
    network = [] if overrides[0] in ("classifier=zoo", "classifier=checkpoint") else NETWORK
    with pytest.raises(InputError, match=message) as caught:
        load_classifier(
            netinv_lightning.compose(
                [*CPU, *network, *DATA, *RECIPE, "classifier.train=true", *overrides]
            )
        )
    assert "\n" not in str(caught.value)
    assert not folder.exists()


def test_a_resumed_run_keeps_the_classifier_that_it_began_with(
    folder: Path, tmp_path: Path
) -> None:
    """A run that was killed before its classifier was trained trains it; later none can take its place."""
    cfg = netinv_lightning.compose(
        [*CPU, *NETWORK, *DATA, *RECIPE, "classifier.train=true", f"resume={tmp_path}"]
    )
    load_classifier(cfg)
    (tmp_path / "classifier.json").write_text("{}")
    with pytest.raises(
        InputError,
        match=r"^resume=.*: its classifier is not kept in classifier\.kept_in=.*; start a new run",
    ):
        load_classifier(cfg)


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InputError,
        match=r"^classifier\.kept_in=.*/file/deep: cannot be written; set it, or NETINV_CLASSIFIERS",
    ):
        load_classifier(config(f"classifier.kept_in={tmp_path / 'file' / 'deep'}"))


# Whole runs


def inversion(tmp_path: Path, job: str, *overrides: str) -> dict[str, float]:
    return run(config(*FEW_STEPS, *overrides), tmp_path / job)


def generator(run_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_a_run_that_finds_its_classifier_equals_the_run_that_trained_it_bit_by_bit(
    tmp_path: Path,
) -> None:
    trained_here = inversion(tmp_path, "miss", "seed=1")
    found = inversion(tmp_path, "hit", "seed=1")
    assert SECONDS in trained_here
    assert SECONDS not in found
    assert {
        name: value for name, value in trained_here.items() if not name.startswith("cost/")
    } == {name: value for name, value in found.items() if not name.startswith("cost/")}
    assert (
        json.loads((tmp_path / "hit" / "summary.json").read_text())[ACCURACY]
        == trained_here[ACCURACY]
    )
    assert equal(generator(tmp_path / "miss"), generator(tmp_path / "hit"))
    assert equal(
        *(load_file(tmp_path / job / "samples" / "inverted.safetensors") for job in ("miss", "hit"))
    )
    inversion(tmp_path, "other", "seed=1", "recipe.seed=2")
    assert not equal(generator(tmp_path / "other"), generator(tmp_path / "hit"))
