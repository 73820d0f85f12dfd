"""The hash that identifies a classifier in the cache."""

from __future__ import annotations

import copy
import shutil
from dataclasses import fields
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from netinv_lightning.classifiers import cache as cache_module
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.cache import cache_path, determined_by
from netinv_lightning.config.schema import RecipeConfig
from tests.classifiers.conftest import (
    SECONDS,
    config,
    equal,
    trained,
)

pytestmark = pytest.mark.usefixtures("folder")


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


def test_the_cache_path_depends_on_all_that_affects_weights() -> None:
    cfg = config()
    before = cache_path(cfg)

    def moves(key: str, value: object) -> bool:
        changed = copy.deepcopy(cfg)
        OmegaConf.update(changed, key, value, force_add=True)
        assert OmegaConf.select(changed, key) == value
        return cache_path(changed) != before

    assert [key for key, value in CHANGES.items() if not moves(key, value)] == []
    assert [key for key, value in LEAVES.items() if moves(key, value)] == []
    assert {f"recipe.{field.name}" for field in fields(RecipeConfig)} - set(CHANGES) == set()


def test_the_recipe_uses_the_runs_seed_unless_it_has_its_own() -> None:
    assert cache_path(config("recipe.seed=4", "seed=1")) == cache_path(
        config("recipe.seed=4", "seed=2")
    )
    assert cache_path(config("seed=4")) == cache_path(config("recipe.seed=4", "seed=2"))


def test_another_version_of_torch_or_code_gives_another_entry(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = cache_path(config())
    version = metadata.version
    for package in ("torch", "netinv_lightning"):
        with monkeypatch.context() as patched:
            patched.setattr(
                metadata,
                "version",
                lambda name, package=package: "9.9" if name == package else version(name),
            )
            assert cache_path(config()) != before
    shutil.copytree(
        cache_module.PACKAGE,
        tmp_path / "copy",
        ignore=shutil.ignore_patterns("zoo_weights", "__pycache__"),
    )
    monkeypatch.setattr(cache_module, "PACKAGE", tmp_path / "copy")
    assert cache_path(config()) == before
    networks = tmp_path / "copy" / "classifiers" / "networks.py"
    networks.write_text(networks.read_text() + "# changed\n")
    assert cache_path(config()) != before


def test_a_changed_source_file_of_the_network_gives_another_entry(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_network.py").write_text(
        "from netinv_lightning.classifiers.networks import MLP as Mine\n\n\nclass Net(Mine):\n    "
        "pass\n"
    )
    own = ["classifier.network._target_=own_network.Net", "+classifier.network.num_classes=10"]
    before = cache_path(config(*own))
    assert before.parent.name.startswith("mnist5k_net_")
    (tmp_path / "own_network.py").write_text(
        (tmp_path / "own_network.py").read_text() + "    width = 3\n"
    )
    assert cache_path(config(*own)) != before


def save_images(path: Path, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (60, 28, 28), dtype=np.uint8)
    np.savez(path, X=images, y=np.arange(60) % 3)


def test_own_images_are_identified_by_their_contents(tmp_path: Path) -> None:
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


def test_an_image_folder_is_identified_by_its_images_and_classes(tmp_path: Path) -> None:
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


def test_own_images_are_needed_for_the_hash_but_not_to_load(tmp_path: Path) -> None:
    save_images(tmp_path / "mine.npz", 0)
    own = [
        "data=npz",
        f"data.path={tmp_path / 'mine.npz'}",
        "data.subset_size=null",
        "data.batch_size=10",
        "data.val_fraction=0",
    ]
    weights, metrics = trained(*own)
    # No images are left for testing, so there is no accuracy.
    assert metrics.keys() == {SECONDS}
    made = load_classifier(config(*own))
    assert (made.spec.num_classes, made.spec.image_size, made.spec.name) == (3, 28, "mine")
    assert equal(made.network.state_dict(), weights)
