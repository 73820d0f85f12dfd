"""Measure runs and files with baselines: tables; verdict and diagnosis of known images."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.config.schema import MeasureConfig
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.baselines import BASELINES
from netinv_lightning.evaluation.verdict import (
    ADVERSARIAL,
    CLASS_TYPICAL,
    NO_INVERSION,
    TRAINING_LIKE,
)
from netinv_lightning.metric_names import METRIC_GROUPS
from netinv_lightning.run import run
from tests.applications.measured_runs import DATA, FEW_METRICS, measured_sets
from tests.conftest import FEW_STEPS, few_test_images

MEASURE = ["application=measure", *DATA, *FEW_METRICS]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a finished run of 8 steps."""
    path = tmp_path_factory.mktemp("finished") / "run"
    run(netinv_lightning.compose([*DATA, *FEW_STEPS, "application.verifiers=[mnist_mlp]"]), path)
    return path


@pytest.fixture(scope="module")
def real() -> ImageDataModule:
    return ImageDataModule("mnist5k")


def _verdict(directory: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((directory / "verdict.json").read_text())
    return content


def test_a_finished_run_is_measured_with_baselines(
    finished: Path, job_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = run(netinv_lightning.compose([*MEASURE, f"application.run={finished}"]), job_dir)
    sets = measured_sets(job_dir)
    before = json.loads((finished / "summary.json").read_text())

    assert list(sets) == ["inverted", "noise", "class_means", "real"]
    assert sets["inverted"]["images"] == 64  # the same images as in the evaluation of the run
    for name in (names.INVERSION_ACCURACY, names.TRANSFER_ACCURACY, names.INTRA_CLASS_COSINE):
        assert sets["inverted"][name] == pytest.approx(before[name], abs=1e-6)
        assert metrics[name] == sets["inverted"][name]
    assert sets["real"][names.TRANSFER_ACCURACY] > 0.9
    assert sets["noise"][names.TRANSFER_ACCURACY] < 0.3
    assert sets["class_means"][names.DUPLICATES] == 1.0
    assert sets["inverted"][names.TRANSFER_CEILING] > 0.95
    assert all(names.MEMORISATION_GAP in measured for measured in sets.values())
    assert json.loads((job_dir / "summary.json").read_text()) == metrics
    assert metrics[names.DUPLICATES] == sets["inverted"][names.DUPLICATES]
    assert metrics[names.SECONDS] == before[names.SECONDS]

    text = (job_dir / "measurement.md").read_text()
    for marked, metric in (
        (True, names.INVERSION_ACCURACY),
        (True, names.VENDI),
        (False, names.TRANSFER_ACCURACY),
        (False, names.MEMORISATION_GAP),
    ):
        assert (f"| {metric} *" in text) == marked
        assert (f"| {metric} |" in text) != marked
    assert "nearest neighbours" in text
    assert "mnist_mlp (sha256 24edab63d16d)" in text

    with (job_dir / "transfer.csv").open() as file:
        rows = list(csv.DictReader(file))
    verifier = [*rows[0]][1].removesuffix(", soft")
    of_class = names.class_accuracy(rows[0]["class"], names.TRANSFER_ACCURACY)
    assert float(rows[0][f"{verifier}, soft"]) == metrics[f"{of_class}/{verifier}"]
    assert rows[-1]["class"] == "all"
    hot = metrics[f"{names.TRANSFER_ACCURACY_HOT}/{verifier}"]
    assert float(rows[-1][f"{verifier}, hot"]) == hot
    mixed = sets["inverted"][names.TRANSFER_MIXTURES]
    assert 0 < mixed < sets["inverted"][names.TRANSFER_CEILING]

    verdict = _verdict(job_dir)
    assert verdict["verdict"] == NO_INVERSION
    printed = capsys.readouterr().out
    assert verdict["line"] in printed
    assert verdict["line"] in (job_dir / "run.log").read_text()
    tables = printed.partition("diagnosis:")[0].partition("verdict:")[0]
    assert max(map(len, tables.splitlines())) <= 100


def test_other_verifiers_replace_those_of_the_run(finished: Path, job_dir: Path) -> None:
    """The transfer accuracy of the run's own verifiers is left out.

    The accuracy is measured even if its metric group is not selected.
    """
    cfg = netinv_lightning.compose(
        [
            *MEASURE,
            f"application.run={finished}",
            "application.verifiers=[]",
            "measure.metrics=[diversity]",
        ]
    )
    metrics = run(cfg, job_dir)
    assert names.TRANSFER_ACCURACY in json.loads((finished / "summary.json").read_text())
    assert not any(
        name.startswith("transfer/") for name in [*metrics, *measured_sets(job_dir)["inverted"]]
    )
    assert names.INVERSION_ACCURACY in measured_sets(job_dir)["inverted"]
    assert (
        "verifiers (their penultimate features are the feature extractors): none"
        in (job_dir / "measurement.md").read_text()
    )


def test_by_default_all_metrics_and_baselines_are_selected() -> None:
    assert MeasureConfig().metrics == list(METRIC_GROUPS)
    assert MeasureConfig().controls == list(BASELINES)


def _images(kind: str, real: ImageDataModule) -> dict[str, Tensor]:
    if kind == "training":
        return {"images": real.train[0][:500], "labels": real.train[1][:500]}  # uint8
    images = BASELINES[kind](50 if kind == "gradient" else 100, load_zoo("mnist_cnn"), real, 0)
    return {"images": images.images_nCHW, "labels": images.labels_n}


@pytest.mark.parametrize(
    ("kind", "verdict", "failures"),
    [
        # The network predicts the same class for all noise.
        ("noise", NO_INVERSION, {"mode collapse", "label mismatch"}),
        ("gradient", ADVERSARIAL, {"noise"}),
        ("real", CLASS_TYPICAL, set()),
        ("training", TRAINING_LIKE, set()),
    ],
)
def test_verdict_on_images_of_known_quality(
    kind: str,
    verdict: str,
    failures: set[str],
    real: ImageDataModule,
    job_dir: Path,
    tmp_path: Path,
) -> None:
    save_file(_images(kind, real), tmp_path / "images.safetensors")
    verifiers = "application.verifiers=[mnist_mlp,mnist_resnet]"
    run(
        netinv_lightning.compose(
            [*MEASURE, f"application.samples={tmp_path}/images.safetensors", verifiers]
        ),
        job_dir,
    )
    found = _verdict(job_dir)
    assert found["verdict"] == verdict
    assert found["not_tested"] == []
    assert {finding["failure"] for finding in found["diagnosis"]} == failures  # type: ignore[attr-defined]


def test_invalid_input_is_refused_before_anything_is_written(
    finished: Path, job_dir: Path, tmp_path: Path
) -> None:
    x_nCHW, labels_n = torch.rand(200, 1, 28, 28), torch.arange(200) % 10
    broken_nCHW = x_nCHW.clone()
    broken_nCHW[:3] = torch.nan
    contents = {
        "good": {"images": x_nCHW, "labels": labels_n},
        "nan": {"images": broken_nCHW, "labels": labels_n},
        "shape": {"images": torch.rand(200, 3, 32, 32), "labels": labels_n},
        "label": {"images": x_nCHW, "labels": labels_n + 1},
        "range": {"images": x_nCHW * 2, "labels": labels_n},
        "tensors": {"pictures": x_nCHW, "labels": labels_n},
        "types": {"images": x_nCHW, "labels": labels_n.float()},
    }
    for name, tensors in contents.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.yaml").write_text((finished / "config.yaml").read_text())
    (unfinished / "status.json").write_text('{"state": "running"}')

    def file(name: str) -> str:
        return f"application.samples={tmp_path}/{name}.safetensors"

    for overrides, message in (
        ([], r"application.run: give either the directory of a finished inversion, or "),
        (
            [f"application.run={finished}", file("good")],
            r"give either the directory of a finished inversion",
        ),
        ([f"application.run={tmp_path}/nowhere"], r"nowhere: there is no such directory"),
        ([f"application.run={unfinished}"], r"is not done \(running\); continue it with resume="),
        ([file("nowhere")], r"there is no such file"),
        ([file("text")], r"is not a complete safetensors file"),
        (
            [file("tensors")],
            r"must contain the tensors images \[n, C, H, W\] and labels \[n\]; it contains labels",
        ),
        ([file("types")], r"labels integers, not torch.float32 and torch.float32"),
        ([file("nan")], r"3 of 200 images contain NaN"),
        ([file("shape")], r"must be .* of the classifier's shape \(1, 28, 28\)"),
        ([file("label")], r"20 of 200 labels are not from 0 to 9"),
        ([file("range")], r"images have pixels outside \[0, 1\]"),
        ([file("good"), "measure.samples=201"], r"measure.samples=201: there are 200 images"),
        ([file("good"), "measure.samples=0"], r"measure.samples=0: must be 1 or more"),
        (
            [file("good"), "measure.samples=1"],
            r"measure.samples=1: too few .* need 2 images or more",
        ),
        (
            [file("good"), "measure.metrics=[acuracy]"],
            r"measure.metrics=acuracy: did you mean 'accuracy'\?",
        ),
        (
            [file("good"), "measure.controls=[means]"],
            r"measure.controls=means: did you mean 'class_means'\?",
        ),
        (
            [file("good"), "application.verifiers=[mnist_mpl]"],
            r"mnist_mpl: is not in the zoo; did you mean 'mnist_mlp'\?",
        ),
        (
            [file("good"), "application.verifiers=[mnist_cnn]"],
            r"verifiers=mnist_cnn: is the classifier that is inverted",
        ),
        (
            [f"application.run={finished}", "application.verifiers=[cifar10_vit]"],
            r"verifiers=cifar10_vit: has channels=3",
        ),
    ):
        with few_test_images(every=50), pytest.raises(InputError, match=message):
            run(netinv_lightning.compose([*MEASURE, *overrides]), job_dir)
        assert not job_dir.exists(), overrides
