"""The cache of trained classifiers: an entry is complete or absent."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import netinv_lightning
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.cache import cache_path, cached_card, determined_by, train_once
from netinv_lightning.classifiers.checkpoints import sha256
from netinv_lightning.data import datasets as sources
from netinv_lightning.errors import InputError
from netinv_lightning.run import run
from tests.classifiers.conftest import (
    ACCURACY,
    CPU,
    DATA,
    NETWORK,
    RECIPE,
    SECONDS,
    config,
    equal,
    trained,
)
from tests.conftest import FEW_STEPS

pytestmark = pytest.mark.usefixtures("folder")


def test_a_cached_classifier_is_loaded_without_opening_data(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, metrics = trained()
    assert metrics[ACCURACY] > 0.3
    assert metrics[SECONDS] > 0
    path = cache_path(config())
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


def test_a_run_can_be_loaded_without_the_cache(folder: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    overrides = [*FEW_STEPS, *NETWORK, *DATA, *RECIPE, "classifier.train=true"]
    run(netinv_lightning.compose(overrides), run_dir)
    kept = load_file(next(folder.glob("*/classifier.safetensors")))
    shutil.rmtree(folder)
    assert equal(netinv_lightning.load_run(run_dir).classifier.network.state_dict(), kept)


def test_building_trains_and_writes_nothing(folder: Path) -> None:
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


def test_the_cache_has_the_classifier_of_train_classifier(tmp_path: Path) -> None:
    weights, metrics = trained("seed=3")
    overrides = [*CPU, *NETWORK, *DATA, *RECIPE, "application=train_classifier", "seed=3"]
    alone = run(netinv_lightning.compose(overrides), tmp_path / "run")
    assert equal(load_file(tmp_path / "run" / "classifier.safetensors"), weights)
    assert metrics[ACCURACY] == round(alone[ACCURACY], 4)
    card, of_kept = (
        json.loads((tmp_path / "run" / "classifier.json").read_text()),
        cached_card(cache_path(config("seed=3"))),
    )
    assert of_kept is not None
    assert card == {key: of_kept[key] for key in card}
    facts = determined_by(config("seed=3"))
    assert of_kept["determined_by"] == facts
    assert facts["recipe"]["seed"] == 3
    assert of_kept["hash"].startswith(cache_path(config("seed=3")).parent.name.rpartition("_")[2])


def test_training_leaves_all_random_states_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "11")
    cfg = config("recipe.seed=5")
    for step in (lambda: load_classifier(cfg), lambda: train_once(cfg, load_classifier(cfg))):
        states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        step()
        assert torch.equal(torch.get_rng_state(), states[0])
        assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]
        assert os.environ["PL_GLOBAL_SEED"] == "11"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the cache with the classifier of `config()`."""
    path = tmp_path_factory.mktemp("cache") / "kept"
    trained(f"classifier.kept_in={path}")
    return path


@pytest.mark.parametrize("damage", ["weights", "short", "card", "no weights", "no card"])
def test_an_incomplete_entry_is_trained_again_with_a_notice(
    damage: str, kept: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = load_file(next(kept.glob("*/classifier.safetensors")))
    shutil.copytree(kept, folder)
    path = cache_path(config())
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
    else:  # as after a kill between writing the weights and the card
        card.unlink()
        path.with_name(path.name + ".partial").write_bytes(content[:1000])
    capfd.readouterr()
    again, metrics = trained()
    assert SECONDS in metrics
    assert equal(again, weights)
    assert path.read_bytes() == content
    whole = cached_card(path)
    assert whole is not None
    assert whole["sha256"] == sha256(path)
    assert (f"{path} is damaged; it is trained again" in capfd.readouterr().err) == (
        damage != "no card"
    )


def test_weights_that_are_not_finite_are_not_cached(folder: Path) -> None:
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
            r"^classifier\.train=true: classifier\.zoo=mnist5k_cnn names trained weights already. "
            r".*classifier=cnn",
        ),
        (
            ["classifier.path=x.safetensors"],
            r"^classifier\.train=true: classifier\.path=x\.safetensors names trained weights "
            r"already",
        ),
        (
            ["application=train_classifier"],
            r"^classifier\.train=true: application=train_classifier always trains the classifier",
        ),
        (
            ["classifier=checkpoint", "classifier.path=null"],
            r"^classifier\.network: choose a network to train",
        ),
        (["recipe.epochs=0"], r"^recipe\.epochs=0: must be 1 or more"),
        (["recipe.optimizer=adam"], r"^recipe\.optimizer=adam: did you mean 'adamw'"),
        (
            ["data=svhn_head", "data.root=nowhere"],
            r"^data\.root=nowhere: .*train_32x32\.head\.mat is missing",
        ),
        (["data=npz", "data.path=nowhere.npz"], r"^data\.path=nowhere\.npz: cannot be read"),
        (["data.subset_size=9999"], r"^data\.subset_size=9999: must be from 2 to 3600"),
        (["classifier.num_classes=7"], r"^classifier\.num_classes=7: the data have 10"),
        (
            ["classifier.image_size=32"],
            r"^classifier\.image_size=32: the images have image_size=28",
        ),
        (
            ["classifier.feature_layers=[hed]"],
            r"^classifier\.feature_layers=hed: the network has no such layer",
        ),
        (
            ["classifier.network._target_=no.such.Network"],
            r"^classifier\.network: cannot be built \(",
        ),
        (
            ["classifier.network._target_=netinv_lightning.classifiers.networks.MPL"],
            r"cannot be built \(netinv_lightning.classifiers.networks has no MPL; did you mean "
            r"'MLP'\?\)$",
        ),
    ],
)
def test_invalid_input_gives_one_line_and_writes_nothing(
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


def test_a_resumed_run_keeps_its_first_classifier(folder: Path, tmp_path: Path) -> None:
    """A run that was killed before its classifier was trained trains it when resumed.

    Later no other classifier can replace it.
    """
    cfg = netinv_lightning.compose(
        [*CPU, *NETWORK, *DATA, *RECIPE, "classifier.train=true", f"resume={tmp_path}"]
    )
    load_classifier(cfg)
    (tmp_path / "classifier.json").write_text("{}")
    with pytest.raises(
        InputError,
        match=(
            r"^resume=.*: its classifier is not in the cache, classifier\.kept_in=.*; "
            r"start a new run"
        ),
    ):
        load_classifier(cfg)


def test_an_unwritable_folder_is_refused_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InputError,
        match=r"^classifier\.kept_in=.*/file/deep: is not writable; set it, or NETINV_CLASSIFIERS",
    ):
        load_classifier(config(f"classifier.kept_in={tmp_path / 'file' / 'deep'}"))


# Complete runs


def inversion(tmp_path: Path, job: str, *overrides: str) -> dict[str, float]:
    return run(config(*FEW_STEPS, *overrides), tmp_path / job)


def generator(run_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_runs_with_and_without_a_cache_entry_are_equal(
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
