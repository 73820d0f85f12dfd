"""`application=detect_ood` on a real classifier and real digits, and what it refuses."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

import netinv_lightning
from netinv_lightning.errors import InputError
from netinv_lightning.metrics import names
from netinv_lightning.run import run

DIGITS = ["application=detect_ood", "data=mnist5k", "classifier.zoo=mnist_cnn", "application.samples=400"]


@pytest.fixture(scope="module")
def detected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command as a user gives it."""
    command = [sys.executable, "-m", "netinv_lightning.run", *DIGITS, "application.detectors=[msp,energy,knn,mahalanobis]"]
    done = subprocess.run(command, cwd=tmp_path_factory.mktemp("run"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


def test_numbers_of_summary_table_and_status_agree(detected: Path) -> None:
    summary = json.loads((detected / "summary.json").read_text())
    with (detected / "detection.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["detector"], row["set"]) for row in rows] == [
        (detector, outside) for detector in ("msp", "energy", "knn", "mahalanobis") for outside in ("gaussian_noise", "uniform_noise")
    ]
    for row in rows:
        assert summary[names.ood(row["detector"], row["set"], "auroc")] == float(row["AUROC"])
        assert float(row["from"]) <= float(row["AUROC"]) <= float(row["to"])
    means = {detector: summary[names.ood(detector, "mean", "auroc")] for detector in ("msp", "energy", "knn", "mahalanobis")}
    assert means["knn"] == pytest.approx(sum(float(row["AUROC"]) for row in rows if row["detector"] == "knn") / 2)
    assert summary[names.OOD_MEAN_AUROC] == max(means.values())
    assert json.loads((detected / "status.json").read_text())["best_metric"] == summary[names.OOD_MEAN_AUROC]
    assert summary[names.CLASSIFIER_TEST_ACCURACY] > 0.97
    gap = summary[names.ood("threshold", "uniform_noise", "gap")]
    assert (gap > 0) == (summary[names.ood("threshold", "uniform_noise", "violations")] == 0)


def test_noise_is_told_from_digits(detected: Path) -> None:
    """No sign is flipped: of noise a distance in the features is sure."""
    summary = json.loads((detected / "summary.json").read_text())
    for detector in ("knn", "mahalanobis"):
        assert summary[names.ood(detector, "uniform_noise", "auroc")] > 0.9


def test_figures_are_there_twice(detected: Path) -> None:
    assert {path.name for path in (detected / "figures").iterdir()} == {
        f"{stem}.{kind}" for stem in ("detection", "confidence") for kind in ("png", "pdf")
    }


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["application.outliers=[mnist]"], r"application.outliers=mnist: is the classifier's own data \(mnist5k\)"),
        (["application.outliers=[noise]"], r"application.outliers=noise: no such set"),
        (["application.outliers=[]"], r"application.outliers: must name one or more"),
        (["application.detectors=[smood]"], r"application.detectors=smood: "),
        (["application.samples=99"], r"application.samples=99: must be 100 or more"),
        (["data.val_fraction=0"], r"data.val_fraction=0.0: must be above 0"),
        (["data=cifar10", "data.root=nowhere"], r"data=cifar10: detectors are fitted and judged on it; no real data"),
        (["resume=somewhere"], r"resume=somewhere: application=detect_ood keeps no checkpoints"),
    ],
)
def test_refuses_in_one_line_and_writes_nothing(tmp_path: Path, overrides: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line) as refused:
        run(netinv_lightning.compose([*DIGITS, *overrides]), tmp_path / "refused")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "refused").exists()
