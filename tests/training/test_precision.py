"""The core of the framework runs in float32 and under bfloat16 autocast."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.ood.detectors.saved_detectors import garbage_path
from netinv_lightning.run import run
from tests.conftest import FEW_STEPS

PRECISIONS = ("32-true", "bf16-mixed")
DIGITS = ["data=mnist5k", "data.subset_size=100", "data.batch_size=20"]
FEWER = [
    "application.steps=2",
    "application.log_every=1",
    "application.grid_every=100",
    "application.eval_samples=20",
    "application.keep_samples=20",
]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return overrides for an MLP with BatchNorm, trained in bfloat16 on 100 digits."""
    folder = tmp_path_factory.mktemp("classifier")
    path = folder / "mlp.safetensors"
    cfg = netinv_lightning.compose(
        [
            *("application=train_classifier", "classifier=mlp", "recipe.epochs=1", *DIGITS),
            *("+classifier.network.widths=[16]", f"application.save_as={path}"),
            "trainer.precision=bf16-mixed",
        ]
    )
    run(cfg, folder / "run")
    return [*DIGITS, "classifier=checkpoint", f"classifier.path={path}"]


@pytest.fixture(scope="module")
def inversions(classifier: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the run directory of an inversion with two generators, by precision."""
    folder = tmp_path_factory.mktemp("inverted")
    for precision in PRECISIONS:
        overrides = [*FEW_STEPS, *FEWER, *classifier, "n_generators=2"]
        cfg = netinv_lightning.compose([*overrides, f"trainer.precision={precision}"])
        run(cfg, folder / precision)
    return {precision: folder / precision for precision in PRECISIONS}


def losses_of(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [float(row[names.LOSS_TOTAL]) for row in rows if row.get(names.LOSS_TOTAL)]


def test_an_inversion_in_bfloat16_is_close_to_one_in_float32(inversions: dict[str, Path]) -> None:
    plain, half = (losses_of(inversions[precision]) for precision in PRECISIONS)
    assert len(plain) == len(half) == 2
    assert half == pytest.approx(plain, rel=0.05)
    assert half != plain  # autocast was enabled
    folder = inversions["bf16-mixed"]
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    floats = [value for value in checkpoint["state_dict"].values() if value.is_floating_point()]
    assert floats
    assert all(value.dtype == torch.float32 for value in floats)
    assert OmegaConf.load(folder / "config.yaml").trainer.precision == "bf16-mixed"


@pytest.fixture(scope="module")
def images(classifier: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the run directory of an inversion by gradient ascent, by precision."""
    folder = tmp_path_factory.mktemp("images")
    few = ["application.eval_samples=100", "application.keep_samples=100", "method.steps=10"]
    overrides = [*FEW_STEPS, *classifier, *few, "method=gradient", "method.lr=0.1"]
    for precision in PRECISIONS:
        cfg = netinv_lightning.compose([*overrides, f"trainer.precision={precision}"])
        run(cfg, folder / precision)
    return {precision: folder / precision for precision in PRECISIONS}


def check_images(folder: Path) -> None:
    assert all(math.isfinite(value) for value in losses_of(folder))
    assert json.loads((folder / "summary.json").read_text())[names.CLASSIFIER_BACKWARDS] > 0


@pytest.mark.parametrize("precision", PRECISIONS)
def test_gradient_ascent(images: dict[str, Path], precision: str) -> None:
    check_images(images[precision])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_kkt(precision: str, tmp_path: Path) -> None:
    few = ["method.steps=2", "method.candidates=20", "classifier.zoo=mnist_mlp"]
    overrides = [*FEW_STEPS, *FEWER, *DIGITS, "method=kkt", *few]
    run(netinv_lightning.compose([*overrides, f"trainer.precision={precision}"]), tmp_path / "run")
    check_images(tmp_path / "run")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_audit_with_its_default_attacks(
    classifier: list[str], precision: str, tmp_path: Path
) -> None:
    """The reconstruction uses all nine terms; its gradient terms pass through BatchNorm."""
    overrides = ["application=audit", *classifier, "generator=tiny", "application.members=20"]
    cfg = netinv_lightning.compose(
        [*overrides, "application.reconstructions=20", f"trainer.precision={precision}"]
    )
    few = {step.split("=")[0]: step for step in (*FEW_STEPS, *FEWER) if "application" in step}
    cfg.application.overrides = list(few.values())
    metrics = run(cfg, tmp_path / "audit")
    for attack in ("reconstruction", "natural"):
        assert 0 <= metrics[names.reconstruction("auc_attack", attack)] <= 1
        path = tmp_path / "audit" / "attacks" / attack / "checkpoints" / "last.ckpt"
        weights = torch.load(path, weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for value in weights.values())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_training_with_a_garbage_class(
    classifier: list[str], precision: str, tmp_path: Path
) -> None:
    garbage = {"epochs": 2, "images": 60, "initial": 20, "per_class": 2, "steps": 3}
    cfg = netinv_lightning.compose(
        [
            *("application=detect_ood", *classifier, "garbage=inverted"),
            *("application.samples=100", "application.detectors=[msp]"),
            *(f"garbage.inverted.{key}={value}" for key, value in garbage.items()),
            f"trainer.precision={precision}",
        ]
    )
    cfg.garbage.inverted.inversion = ["generator=tiny", "application.batch_size=8"]
    metrics = run(cfg, tmp_path / "run")
    assert 0 <= metrics[names.ood("inverted", "uniform_noise", "auroc")] <= 1
    weights = load_file(garbage_path(tmp_path / "run", "inverted")).values()
    assert all(value.dtype == torch.float32 for value in weights if value.is_floating_point())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_distillation(inversions: dict[str, Path], precision: str, tmp_path: Path) -> None:
    overrides = [
        *("application=distill", f"application.run={inversions[precision]}"),
        *("application.steps=2", "application.batch_size=8", "application.every=2"),
        *("+application.student.stages=[[4],[8]]", f"trainer.precision={precision}"),
    ]
    metrics = run(netinv_lightning.compose(overrides), tmp_path / "distilled")
    assert 0 <= metrics[names.STUDENT_AGREEMENT_FRESH] <= 1


@pytest.mark.parametrize("precision", PRECISIONS)
def test_interpretation(images: dict[str, Path], precision: str, tmp_path: Path) -> None:
    few = {"samples": 100, "analyses": ["projection"]}
    overrides = [
        *("application=interpret", f"application.run={images[precision]}"),
        *(f"interpret.{key}={str(value).replace(' ', '')}" for key, value in few.items()),
        f"trainer.precision={precision}",
    ]
    metrics = run(netinv_lightning.compose(overrides), tmp_path / "studied")
    assert names.interpretation("seconds", "projection") in metrics
    found = [value for name, value in metrics.items() if name.startswith("interpretation/")]
    assert len(found) > 3
    assert all(math.isfinite(value) for value in found)
