"""Data-free distillation: a student learns from its teacher on generated images."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import netinv_lightning
from experiments.forked import run_command
from netinv_lightning import metric_names as names
from netinv_lightning.applications import make_application
from netinv_lightning.classifiers.build import load_carded, load_zoo, named_card, training_split
from netinv_lightning.classifiers.zoo import zoo_path
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.downstream import build
from netinv_lightning.downstream.classifier_predictions import predict
from netinv_lightning.downstream.generator_rounds import (
    WARM_UP_STEPS,
    GeneratorRounds,
)
from netinv_lightning.errors import InputError
from netinv_lightning.privacy.real_images import check_comparable
from netinv_lightning.run import run
from tests.conftest import FEW_STEPS
from tests.figure_contents import not_rendered

DATA = ["data=mnist5k", "classifier.zoo=mnist_mlp"]
SMALL = ["+application.student.stages=[[16],[32]]", "+application.student.hidden=64"]
FEW = ["application.steps=3", "application.batch_size=8", *SMALL]


@contextmanager
def few_images() -> Iterator[None]:
    """Context in which a round makes a third of the images."""
    with pytest.MonkeyPatch.context() as patch, not_rendered():
        patch.setattr(build, "GeneratorRounds", partial(GeneratorRounds, images=40))
        yield


@pytest.fixture(scope="module")
def distilled(inverted_cnn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a distillation from the command line."""
    overrides = [
        "application=distill",
        f"application.run={inverted_cnn}",
        "application.steps=120",
        "application.batch_size=25",
        *SMALL,
    ]
    done = run_command(overrides, cwd=tmp_path_factory.mktemp("cwd"), within=few_images)
    assert done.returncode == 0, done.stderr
    assert "student  step 120/120" in done.stderr
    return Path(done.stdout.splitlines()[-1])


def test_student_of_inverted_images_beats_one_of_noise(distilled: Path) -> None:
    summary = json.loads((distilled / "summary.json").read_text())
    assert summary[names.STUDENT_ACCURACY] > summary[names.noise_student("accuracy")] + 0.1
    # Chance is 0.1. The inversion had 50 steps and the student 120.
    assert summary[names.STUDENT_AGREEMENT] > 0.2
    assert summary[names.noise_student("agreement")] < 0.15
    assert summary[names.TEACHER_ACCURACY] > 0.98
    assert (
        json.loads((distilled / "status.json").read_text())["best_metric"]
        == summary[names.STUDENT_ACCURACY]
    )
    with (distilled / "distillation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["network"] for row in rows] == [
        "student trained on inverted images",
        "student trained on noise (control)",
        "teacher",
    ]
    assert float(rows[0]["accuracy"]) == summary[names.STUDENT_ACCURACY]
    assert rows[2]["agreement"] == "1.0"
    assert names.STUDENT_LOSS in (distilled / "metrics.csv").read_text()
    assert (distilled / "figures" / "taught.png").stat().st_size > 1000


def test_saved_student_is_the_evaluated_one(distilled: Path) -> None:
    student = load_carded(distilled / "student.safetensors", "classifier.path")
    images_nCHW, label_n = ImageDataModule("mnist5k").test
    summary = json.loads((distilled / "summary.json").read_text())
    found_n, teacher_n = predict(student, images_nCHW), predict(load_zoo("mnist_cnn"), images_nCHW)
    assert float((found_n == label_n).double().mean()) == summary[names.STUDENT_ACCURACY]
    assert float((found_n == teacher_n).double().mean()) == summary[names.STUDENT_AGREEMENT]


def test_student_is_compared_with_its_teachers_training_data(distilled: Path) -> None:
    student, teacher = (
        netinv_lightning.compose(
            ["classifier=checkpoint", f"classifier.path={path}", "data=mnist5k"]
        )
        for path in (distilled / "student.safetensors", zoo_path("mnist_cnn"))
    )
    assert (
        training_split(student)
        == training_split(teacher)
        == {"val_fraction": 0.0, "subset_size": None, "split_seed": 0}
    )
    # A student was not trained on any real image.
    training_images = named_card(student).get("training_images")
    check_comparable(training_images, ImageDataModule("mnist5k"))


def test_training_images_are_never_read(
    inverted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The student is the same with and without data, and missing metrics are reported."""
    application = ["application=distill", f"application.run={inverted}", *FEW]
    monkeypatch.setattr("netinv_lightning.downstream.generator_rounds.STEPS", WARM_UP_STEPS + 1)
    monkeypatch.setattr(build, "GeneratorRounds", partial(GeneratorRounds, images=20))

    def refuse(self: ImageDataModule) -> Any:
        raise AssertionError("training images were read")

    with monkeypatch.context() as patch:
        patch.setattr(
            ImageDataModule, "train", property(refuse, lambda self, split: None), raising=False
        )
        with_data = run(netinv_lightning.compose(application), tmp_path / "with")
    monkeypatch.setattr(
        "netinv_lightning.applications.distill.open_test_data",
        lambda cfg, spec: (None, "no real data: not there"),
    )
    without = run(netinv_lightning.compose(application), tmp_path / "without")
    first, second = (
        load_file(tmp_path / name / "student.safetensors") for name in ("with", "without")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert names.STUDENT_ACCURACY in with_data
    assert not {names.STUDENT_ACCURACY, names.STUDENT_AGREEMENT, names.TEACHER_ACCURACY} & set(
        without
    )
    assert without[names.STUDENT_AGREEMENT_FRESH] == with_data[names.STUDENT_AGREEMENT_FRESH]
    assert "no real data: not there" in (tmp_path / "without" / "distillation.md").read_text()


def test_a_run_without_a_generator_uses_its_saved_images(tmp_path: Path) -> None:
    overrides = [
        *DATA,
        *FEW_STEPS,
        "method=gradient",
        "method.steps=3",
        "application.eval_samples=20",
        "application.keep_samples=20",
    ]
    run(netinv_lightning.compose(overrides), tmp_path / "run")
    command = ["application=distill", f"application.run={tmp_path / 'run'}", *FEW]
    metrics = run(netinv_lightning.compose(command), tmp_path / "distilled")
    assert 0 <= metrics[names.STUDENT_AGREEMENT] <= 1
    assert "20 images saved by the run" in (tmp_path / "distilled" / "distillation.md").read_text()


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["application.steps=0"], r"application.steps=0: must be 1 or more"),
        (["application.batch_size=1"], r"application.batch_size=1: must be 2 or more"),
        (["application.lr=0"], r"application.lr=0.0: must be above 0"),
        (["application.every=0"], r"application.every=0: must be 1 or more"),
        (["application.features=-1"], r"application.features=-1.0: must be 0 or more"),
        (["application.temperature=-1"], r"application.temperature=-1.0: must be above 0"),
        (["augmentation.shift=-1"], r"augmentation.shift=-1.0: must be from 0 to 4096"),
        (
            ["+application.student.stages=[[8],[8],[8],[8],[8]]"],
            r"application.student=.*cannot be built .*poolings leave nothing",
        ),
        (
            ["application.student={_target_: torch.nn.Identity}"],
            r"application.student=.*Identity.*: ",
        ),
        (
            ["data=fashion_mnist"],
            r"data=fashion_mnist: the run uses data=mnist5k, which cannot be changed. Remove",
        ),
        (
            ["application.run="],
            r"application.run: is missing. Give the directory of a finished inversion",
        ),
    ],
)
def test_invalid_input_gives_one_line(inverted: Path, overrides: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line) as error:
        make_application(
            netinv_lightning.compose(
                ["application=distill", f"application.run={inverted}", *overrides]
            )
        )
    assert "\n" not in str(error.value)


def test_the_run_must_be_given_and_finished(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"application.run: is missing. Give the directory"):
        make_application(netinv_lightning.compose(["application=distill"]))
    with pytest.raises(InputError, match=r"nowhere: there is no such directory"):
        make_application(
            netinv_lightning.compose(
                ["application=distill", f"application.run={tmp_path / 'nowhere'}"]
            )
        )
