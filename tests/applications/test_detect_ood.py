"""`application=detect_ood` on a real classifier and real digits, and invalid input."""

from __future__ import annotations

import csv
import json
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from omegaconf import open_dict

import netinv_lightning
from experiments.forked import Command, run_command
from netinv_lightning import metric_names as names
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.outliers import outliers
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.real_data import of_split
from netinv_lightning.metrics.detection import detection
from netinv_lightning.run import run

DIGITS = [
    "application=detect_ood",
    "data=mnist5k",
    "classifier.zoo=mnist_cnn",
    "application.samples=200",
]
GARBAGE = [
    *(
        "application.detectors=[msp,energy,knn,mahalanobis]",
        "garbage=noise",
        "garbage.noise.epochs=3",
        "garbage.noise.images=500",
    ),
    *(
        "garbage.noise.initial=200",
        "garbage.noise.per_class=10",
        "garbage.noise.weight=1",
        "garbage.noise.lr=0.02",
        "data.batch_size=50",
    ),
]
DETECTORS = ("msp", "energy", "knn", "mahalanobis", "noise")


@pytest.fixture(scope="module")
def detected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run directory made by the command line."""
    study = ["application.strengths=[0.03,0.3]", "application.shifted=100"]
    done = run_command([*DIGITS, *GARBAGE, *study], cwd=tmp_path_factory.mktemp("run"))
    assert done.returncode == 0, done.stderr
    for level in (
        "garbage noise  training step",
        "garbage noise  epoch 3/3 done",
        "scoring with noise, data set 1 of ",
    ):
        assert level in done.stderr
    return Path(done.stdout.splitlines()[-1])


def test_numbers_of_summary_table_and_status_agree(detected: Path) -> None:
    summary = json.loads((detected / "summary.json").read_text())
    with (detected / "detection.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["detector"], row["set"]) for row in rows] == [
        (detector, outside)
        for detector in DETECTORS
        for outside in ("gaussian_noise", "uniform_noise")
    ]
    for row in rows:
        assert summary[names.ood(row["detector"], row["set"], "auroc")] == float(row["AUROC"])
        assert float(row["from"]) <= float(row["AUROC"]) <= float(row["to"])
    means = {detector: summary[names.ood(detector, "mean", "auroc")] for detector in DETECTORS}
    assert means["knn"] == pytest.approx(
        sum(float(row["AUROC"]) for row in rows if row["detector"] == "knn") / 2
    )
    assert summary[names.OOD_MEAN_AUROC] == max(means.values())
    assert (
        json.loads((detected / "status.json").read_text())["best_metric"]
        == summary[names.OOD_MEAN_AUROC]
    )
    assert summary[names.CLASSIFIER_TEST_ACCURACY] > 0.97
    gap = summary[names.ood("plain", "uniform_noise", "gap")]
    assert (gap > 0) == (summary[names.ood("plain", "uniform_noise", "violations")] == 0)


def test_a_garbage_class_rejects_confident_noise(detected: Path) -> None:
    """The plain classifier assigns each noise image to a digit, with high confidence."""
    summary = json.loads((detected / "summary.json").read_text())
    assert names.ood("plain", "uniform_noise", "garbage_rate") not in summary
    assert summary[names.ood("plain", "uniform_noise", "confidence")] > 0.9
    assert summary[names.ood("plain", "uniform_noise", "violations")] == 1
    assert summary[names.ood("noise", "uniform_noise", "garbage_rate")] == 1
    assert summary[names.ood("noise", "own", "garbage_rate")] < 0.02
    assert summary[names.ood("noise", "own", "accuracy")] > 0.97
    # No noise image is assigned to a digit.
    assert names.ood("noise", "uniform_noise", "gap") not in summary


def test_a_saved_detector_gives_the_scores_of_its_run(detected: Path) -> None:
    """Load a post-hoc detector, and one with a garbage class."""
    spec = netinv_lightning.load_detector(detected, "knn").classifier.spec
    data = ImageDataModule("mnist5k")
    own, noise = (
        of_split(data.test, 200, 0).images_nCHW,
        outliers("uniform_noise", spec, 200, 0, Path()),
    )
    summary = json.loads((detected / "summary.json").read_text())
    for name in ("knn", "noise"):
        detector = netinv_lightning.load_detector(detected, name)
        found = detection(detector.score(own), detector.score(noise), 0)
        assert found.auroc == pytest.approx(
            summary[names.ood(name, "uniform_noise", "auroc")], abs=1e-6
        )
        assert found.fpr95_in == pytest.approx(
            summary[names.ood(name, "uniform_noise", "fpr95_in")], abs=1e-6
        )
        accepted_n = detector.score(own) <= detector.threshold(0.9)
        assert accepted_n.double().mean() == pytest.approx(0.9, abs=0.06)
    with pytest.raises(InputError, match=r"has no detector nois; did you mean 'noise'\?"):
        netinv_lightning.load_detector(detected, "nois")


def test_detectors_that_noise_cannot_tune_are_noted(tmp_path: Path) -> None:
    """No setting of ODIN is better than another: noise has more confidence than digits.

    A user's own images are an outlier set.
    """
    np.savez(tmp_path / "letters.npz", X=np.full((30, 20, 20), 128, dtype=np.uint8))
    sets = f"application.outliers=[{tmp_path}/letters.npz]"
    run(
        netinv_lightning.compose(
            [*DIGITS, "application.samples=100", "application.detectors=[odin]", sets]
        ),
        tmp_path / "run",
    )
    told = (tmp_path / "run" / "detection.md").read_text()
    assert re.search(r"odin is tuned on .* AUROC 0\.\d+\); noise was not separable", told)
    assert "OOD: letters 30" in told
    assert names.ood("odin", "letters", "auroc") in json.loads(
        (tmp_path / "run" / "summary.json").read_text()
    )
    (tmp_path / "letters.npz").rename(tmp_path / "mean.npz")
    with pytest.raises(
        InputError,
        match=r"mean.npz: would have the name mean in the results, which is already in use. Rename",
    ):
        run(
            netinv_lightning.compose([*DIGITS, sets.replace("letters", "mean")]),
            tmp_path / "refused",
        )


def test_the_perturbation_study_has_a_row_per_combination(
    detected: Path,
) -> None:
    with (detected / "shifts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 2 * 2 * 4
    assert names.ood_gain("random", "l2") in json.loads((detected / "summary.json").read_text())


def test_a_stopped_run_is_resumed(detected: Path, tmp_path: Path) -> None:
    arguments = [*DIGITS, *GARBAGE, f"hydra.run.dir={tmp_path / 'run'}"]
    stderr = tmp_path / "stderr"
    process = Command(arguments, cwd=tmp_path, stdout=tmp_path / "stdout", stderr=stderr)
    while process.poll() is None and "epoch 1/3 done" not in stderr.read_text():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143, stderr.read_text()
    assert f"resume={tmp_path / 'run'}" in stderr.read_text()
    done = run_command([f"resume={tmp_path / 'run'}"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "epoch 1/3" not in done.stderr
    expected, found = (
        json.loads((path / "summary.json").read_text()) for path in (detected, tmp_path / "run")
    )
    of_garbage = {name for name in found if name.startswith("ood/noise/")}
    assert len(of_garbage) > 20
    assert {name: found[name] for name in of_garbage} == {
        name: expected[name] for name in of_garbage
    }


def test_noise_is_separated_from_digits(detected: Path) -> None:
    """No score has the wrong sign: detectors of feature distances separate noise well."""
    summary = json.loads((detected / "summary.json").read_text())
    for detector in ("knn", "mahalanobis"):
        assert summary[names.ood(detector, "uniform_noise", "auroc")] > 0.9


def test_each_figure_is_a_png_and_a_pdf(detected: Path) -> None:
    assert {path.name for path in (detected / "figures").iterdir()} == {
        "garbage_noise.png",
        *(
            f"{stem}.{kind}"
            for stem in ("detection", "confidence", "roc", "shifts")
            for kind in ("png", "pdf")
        ),
    }


def test_a_garbage_class_cannot_have_the_name_of_a_detector(tmp_path: Path) -> None:
    cfg = netinv_lightning.compose([*DIGITS, "garbage=noise"])
    with open_dict(cfg.garbage):
        cfg.garbage["msp"] = cfg.garbage.noise
    with pytest.raises(InputError, match=r"garbage.msp: is the name of a detector"):
        run(cfg, tmp_path / "refused")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["garbage=nois"], r"garbage=nois: there is no such choice; did you mean 'noise'\?"),
        (
            ["garbage=noise", "garbage.noise.epoch=3"],
            r"garbage.noise.epoch: there is no such key; did you mean 'epochs'\?",
        ),
        (
            ["garbage.noise.epochs=3"],
            r"garbage.noise.epochs: is a key of garbage=noise; choose that too",
        ),
        (
            ["garbage=noise", "+garbage.mine.source=noise"],
            r"garbage.mine: there is no such choice\. .*garbage/mine.yaml",
        ),
        (
            ["garbage=noise", "garbage.noise.epochs=few"],
            r"garbage.noise.epochs=few: must be a whole number",
        ),
    ],
)
def test_an_invalid_key_of_garbage_is_refused(overrides: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line):
        netinv_lightning.compose([*DIGITS, *overrides])


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["application.outliers=[mnist]"],
            r"application.outliers=mnist: is the classifier's own data \(mnist5k\)",
        ),
        (["application.outliers=[noise]"], r"application.outliers=noise: there is no such set"),
        (
            ["application.outliers=[photos/]"],
            r"application.outliers=photos/: there is no such file or folder \(looked for /",
        ),
        (
            ["application.outliers=[npz]"],
            r"application.outliers=npz: there is no such set; "
            r".*For your own images give an .npz file with X",
        ),
        (
            ["data=fashion_mnist"],
            r"data=fashion_mnist: the classifier was trained on mnist .*Set data=mnist",
        ),
        (["application.outliers=[]"], r"application.outliers=\[\]: is empty. Give at least one"),
        (["application.detectors=[smood]"], r"application.detectors=smood: "),
        (["application.samples=99"], r"application.samples=99: must be 100 or more"),
        (["data.val_fraction=0"], r"data.val_fraction=0.0: must be above 0"),
        (
            ["data=mnist", "data.root=nowhere"],
            r"data=mnist: detectors need real images; no real data",
        ),
        (
            ["application.detectors=[msp,msp]"],
            r"application.detectors=\['msp', 'msp'\]: contains a value twice",
        ),
        (
            ["application.strengths=[2.0]"],
            r"application.strengths=2.0: must be above 0 and at most 1",
        ),
    ],
)
def test_invalid_input_gives_one_line_and_writes_nothing(
    tmp_path: Path, overrides: list[str], line: str
) -> None:
    with pytest.raises(InputError, match=line) as refused:
        run(netinv_lightning.compose([*DIGITS, *overrides]), tmp_path / "refused")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "refused").exists()
