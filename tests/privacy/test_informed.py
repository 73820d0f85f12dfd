"""The attack of an informed adversary, who knows all training images but one.

Shape suffixes: n images, S networks, T targets, P parameters.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.applications import make_application
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.privacy import informed
from netinv_lightning.privacy.build_informed import informed_data
from netinv_lightning.privacy.informed import InformedAttack, InformedData
from netinv_lightning.privacy.informed_result import distances
from netinv_lightning.privacy.shadow_models import train_together, unstacked
from netinv_lightning.privacy.stacked_training import StackRecipe
from netinv_lightning.run import run
from netinv_lightning.training.snapshots import Snapshots
from tests.inversion.methods.small_attacks import SPEC, small_mlp

CPU = torch.device("cpu")
RECIPE = StackRecipe(
    epochs=300, batch_size=100, optimizer="sgd", lr=0.2, momentum=0.9, weight_decay=0.1,
    label_smoothing=0.0, warmup=0.1,
)  # fmt: skip


def images(n: int, seed: int) -> Images:
    source = torch.Generator().manual_seed(seed)
    x_nCHW = torch.rand(n, *SPEC.shape, generator=source)
    return Images(x_nCHW, torch.arange(n) % SPEC.num_classes)


def classifier(network: nn.Module) -> Classifier:
    return Classifier(network.train().requires_grad_(True), SPEC)


def run_context(folder: Path | None = None, resuming: bool = False) -> Any:
    def snapshots(name: str, every: int) -> Snapshots:
        path = None if folder is None else folder / "checkpoints" / f"{name}.ckpt"
        return Snapshots(path, resuming, every)

    return SimpleNamespace(device=CPU, snapshots=snapshots)


def linear_attack(recipe: StackRecipe = RECIPE) -> InformedAttack:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    data = InformedData(
        known=images(12, 1), shadows=images(6, 2), targets=images(4, 3), held_out=images(4, 4)
    )
    frozen = FrozenClassifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), SPEC)
    return InformedAttack(classifier(network), frozen, recipe, data, seed=0)


def test_a_linear_classifier_gives_the_missing_image_exactly() -> None:
    attack = linear_attack()
    found = attack(run_context())
    x_TCHW = found.images.images_nCHW
    torch.testing.assert_close(x_TCHW, attack.data.targets.images_nCHW, rtol=0, atol=5e-3)
    assert (found.models, found.image_passes) == (4, 4 * 300 * 13)
    adversary_ACHW = torch.cat([attack.data.known.images_nCHW, attack.data.shadows.images_nCHW])
    for of, share in ((attack.data.targets, 1.0), (attack.data.held_out, 0.0)):
        assert distances(of.images_nCHW, x_TCHW, adversary_ACHW).success == share


def test_each_network_is_trained_as_if_it_were_alone() -> None:
    recipe = StackRecipe(**{**vars(RECIPE), "epochs": 3, "batch_size": 5})
    model, known, own = classifier(small_mlp()), images(9, 1), images(2, 2)
    weights_SP = train_together(model, known, own, recipe, seed=0)
    for s in range(2):
        alone = classifier(small_mlp())
        all_nCHW = torch.cat([known.images_nCHW, own.images_nCHW[[s]]])
        label_n = torch.cat([known.labels_n, own.labels_n[[s]]])
        decayed = [{"params": [*alone.parameters()][:1], "weight_decay": 0.1}]
        decayed[0]["params"] = [weight for weight in alone.parameters() if weight.ndim > 1]
        rest = {"params": [weight for weight in alone.parameters() if weight.ndim <= 1]}
        optimizer = torch.optim.SGD([*decayed, rest], 0.2, 0.9, nesterov=True)
        source = torch.Generator().manual_seed(0)
        batches = [
            batch for _ in range(3) for batch in torch.randperm(10, generator=source).split(5)
        ]
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 0.2, len(batches), pct_start=0.1, cycle_momentum=False
        )
        for batch in batches:
            optimizer.zero_grad()
            F.cross_entropy(alone(all_nCHW[batch]), label_n[batch]).backward()
            optimizer.step()
            schedule.step()
        found = unstacked(model, weights_SP[s])
        for name, weight in alone.named_parameters():
            torch.testing.assert_close(found[name], weight.detach(), rtol=1e-4, atol=1e-5)
    assert not torch.equal(weights_SP[0], weights_SP[1])


@pytest.fixture
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("STEPS", 150), ("HIDDEN", 100), ("LR", 3e-3), ("WEIGHT_DECAY", 0.1)):
        monkeypatch.setattr(informed, name, value)


@pytest.mark.usefixtures("small_networks")
def test_an_audit_of_a_recipe_finds_the_missing_images(tmp_path: Path) -> None:
    command = [
        "application=audit", "application.attacks=[informed]", "application.known=40",
        "application.targets=30", "application.models=300", "data=digits",
        "data.subset_size=40", "data.batch_size=64", "classifier=mlp", "classifier.train=true",
        f"classifier.kept_in={tmp_path}/kept", "recipe.epochs=40", "recipe.label_smoothing=0",
        "+classifier.network={widths: [8], batch_norm: false, dropout: 0}",
    ]  # fmt: skip
    metrics = run(netinv_lightning.compose(command), tmp_path / "run")
    of = {
        what: metrics[names.reconstruction("informed", what)]
        for what in ("success", "success_control", "error", "error_control", "models")
    }
    assert of["success"] > 0.15 > 0.05 > of["success_control"]
    assert of["error"] < 0.6 * of["error_control"]
    assert of["models"] == 330
    assert metrics[names.RECONSTRUCTION_AUC] > 0.6
    table = (tmp_path / "run" / "informed.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table] == [
        "image", "missing image", "image of no model",
    ]  # fmt: skip
    for file in ("verdict.json", "figures/informed.png"):
        assert (tmp_path / "run" / file).stat().st_size > 100


def test_a_resumed_attack_trains_no_finished_model_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(informed, "TOGETHER", 51 * 2)  # two networks of 51 weights at once
    short = StackRecipe(**{**vars(RECIPE), "epochs": 2})
    first = linear_attack(short)(run_context(tmp_path))
    monkeypatch.setattr(informed, "train_together", None)
    again = linear_attack(short)(run_context(tmp_path, resuming=True))
    assert torch.equal(again.images.images_nCHW, first.images.images_nCHW)


def test_the_sets_of_images_are_disjoint_and_of_equal_classes() -> None:
    data = ImageDataModule("digits", subset_size=60)
    found = informed_data(data, known=50, targets=20, shadows=100, seed=3)
    sets = [found.known, found.shadows, found.targets, found.held_out]
    assert [len(of.labels_n) for of in sets] == [50, 100, 20, 20]
    assert torch.equal(found.targets.labels_n, found.held_out.labels_n)
    everything = torch.cat([of.images_nCHW for of in sets]).flatten(1)
    assert len(everything.unique(dim=0)) > 185  # the data set has a few equal images
    with pytest.raises(InputError, match=r"^application.models=9999: the attack needs 10,039 im"):
        informed_data(data, known=50, targets=20, shadows=9999, seed=3)


def test_distances_by_hand() -> None:
    x_TCHW = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    adversary_ACHW = torch.tensor([0.5, 0.9]).view(2, 1, 1, 1)
    found = distances(x_TCHW, torch.tensor([0.1, 0.5]).view(2, 1, 1, 1), adversary_ACHW)
    torch.testing.assert_close(found.reconstruction_T, torch.tensor([0.01, 0.25]))
    torch.testing.assert_close(found.nearest_T, torch.tensor([0.25, 0.01]))
    assert found.nearest_index_T.tolist() == [0, 1]
    assert found.success == 0.5


SMALL = [
    "+classifier.network={widths: [8], batch_norm: false, dropout: 0}",
    "classifier.train=true",
]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["classifier.train=true"], r"informed: needs a network without BatchNorm, whose stat"),
        ([*SMALL, "application.models=5000"], r"application.models=5000: the attack needs"),
        (
            [*SMALL, "application.models=1000000"],
            r"informed: is an attack on small networks, but 1000000 shadow models of 600 param",
        ),
        ([*SMALL, "recipe.l1=0.1"], r"recipe.l1=0.1: application.attacks=informed trains without"),
        ([*SMALL, "data.shift=1"], r"data.shift=1: application.attacks=informed trains without"),
    ],
)
def test_what_the_attack_cannot_do_is_refused(
    overrides: list[str], told: str, tmp_path: Path
) -> None:
    command = ["application=audit", "application.attacks=[informed]", "data=digits"]
    kept = f"classifier.kept_in={tmp_path}"
    with pytest.raises(InputError, match=told):
        make_application(netinv_lightning.compose([*command, "classifier=mlp", kept, *overrides]))
