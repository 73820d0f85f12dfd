"""`application=reconstruct` and `application=audit` on real digits, and invalid input."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import netinv_lightning
from experiments.forked import run_command
from netinv_lightning import metric_names as names
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.specs import MNIST
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.finished_run import open_finished
from netinv_lightning.evaluation.image_sets import read_samples
from netinv_lightning.evaluation.measurement import Measurement
from netinv_lightning.privacy.comparison_tables import RECONSTRUCTIONS
from netinv_lightning.privacy.control_sets import CONTROLS
from netinv_lightning.run import run
from tests.applications.leaking_classifier import FEW, of


def test_no_data_are_read_before_the_images_exist(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack uses only the weights."""
    cfg = netinv_lightning.compose(
        ["application=reconstruct", *FEW, *of(trained), "application.student=false"]
    )
    kept, read = [], ImageDataModule.__init__

    def watched(self: ImageDataModule, *args: Any, **keys: Any) -> None:
        kept.append((tmp_path / "run" / "samples" / "inverted.safetensors").is_file())
        read(self, *args, **keys)

    monkeypatch.setattr(ImageDataModule, "__init__", watched)
    summary = run(cfg, tmp_path / "run")
    assert kept == [True]
    assert names.RECONSTRUCTION_AUC in summary
    assert names.RECONSTRUCTION_STUDENT not in summary


def test_a_reconstruction_from_the_command_line(trained: Path, tmp_path: Path) -> None:
    done = run_command(
        ["application=reconstruct", *FEW, *of(trained), "application.members=60"], cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    directory = Path(done.stdout.splitlines()[-1])
    summary = json.loads((directory / "summary.json").read_text())
    with (directory / "reconstruction.csv").open(newline="") as file:
        rows = {row["images"]: row for row in csv.DictReader(file)}
    assert list(rows) == [RECONSTRUCTIONS, *CONTROLS]
    assert float(rows[RECONSTRUCTIONS]["auc"]) == summary[names.RECONSTRUCTION_AUC]
    assert (
        json.loads((directory / "status.json").read_text())["best_metric"]
        == summary[names.RECONSTRUCTION_AUC]
    )
    samples = read_samples(directory / "samples" / "inverted.safetensors", "samples", MNIST)
    assert samples.targets_nN is not None
    # One-hot conditioning
    assert samples.targets_nN.max(dim=1).values.tolist() == [1.0] * len(samples.labels_n)
    for term in (
        "kl",
        "kl_perturbed",
        "ce",
        "ce_perturbed",
        "cosine",
        "orthogonality",
        "variation",
        "pixel",
        "gradient",
    ):  # the nine terms of the papers
        assert f"loss/{term}" in (directory / "metrics.csv").read_text().splitlines()[0]
    finished = open_finished(directory, "run")
    student = Measurement(finished.classifier, {}, ImageDataModule("mnist5k"), ["cas"])(
        finished.draw(40)
    )
    assert summary[names.RECONSTRUCTION_STUDENT] == student[names.CAS]
    assert (directory / "figures" / "best_pairs.png").stat().st_size > 1000
    assert "60 members" in (directory / "reconstruction.md").read_text()


def test_data_of_another_set_are_refused_before_the_attack(trained: Path, tmp_path: Path) -> None:
    """No data are read. A verdict on images that the classifier never saw would be misleading."""
    for application in ("reconstruct", "audit"):
        cfg = netinv_lightning.compose(
            [f"application={application}", *of(trained), "data=fashion_mnist", "data.root=nowhere"]
        )
        with pytest.raises(
            InputError,
            match=r"data=fashion_mnist: the classifier was trained on mnist5k",
        ):
            run(cfg, tmp_path / "run")
    cfg = netinv_lightning.compose(
        ["application=reconstruct", "classifier.zoo=mnist_cnn", "data=mnist", "data.classes=[3,1]"]
    )
    with pytest.raises(
        InputError,
        match=r"data=mnist: has num_classes=2, but the classifier has num_classes=10",
    ):
        run(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_kkt_reconstruction_has_at_most_its_candidates(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attack = [
        "application=reconstruct",
        "method=kkt",
        "method.steps=1",
        "method.candidates=30",
        "application.student=false",
    ]
    run(
        netinv_lightning.compose([*attack, *of(trained), "application.members=60"]),
        tmp_path / "run",
    )
    with (tmp_path / "run" / "reconstruction.csv").open(newline="") as file:
        rows = {row["images"]: row for row in csv.DictReader(file)}
    assert rows[RECONSTRUCTIONS]["n"] == "30"
    (verdict,) = [
        line
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("verdict: ") and "strongest attack" in line
    ]
    found = float(rows["planted leak"]["p_value"]) <= 0.05
    assert verdict.startswith(
        "verdict: no leak found: " if found else "verdict: inconclusive: too few images: "
    )
    kept = json.loads((tmp_path / "run" / "verdict.json").read_text())
    assert kept["line"] == verdict
    assert "diagnosis" in kept
