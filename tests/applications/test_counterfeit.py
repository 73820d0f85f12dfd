"""Counterfeits: confidently classified images, and their distance from real images."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.applications import make_application
from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.downstream.counterfeits import ReferenceImages, nearest_rows, predictions
from netinv_lightning.errors import InputError
from netinv_lightning.html_report.run_contents import read_run
from netinv_lightning.run import run
from netinv_lightning.runs.resume import read_config
from tests.conftest import FEW_STEPS

DATA = ["data=mnist5k", "classifier.zoo=mnist_cnn"]


def test_predictions_from_logits_by_hand() -> None:
    logits_nN = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, -100.0], [60.0, 0.0, 0.0]])
    found = predictions(logits_nN, torch.tensor([1, 1, 0]))
    assert found.confidence_n.tolist() == pytest.approx([1 / 3, 1 / (1 + torch.e**2), 1.0])
    assert found.log_odds_n.tolist() == pytest.approx([-0.6931472, -2.0, 59.3068528], abs=1e-6)
    assert found.predicted_n.tolist() == [0, 0, 0]
    assert found.max_probability_n.tolist() == pytest.approx([1 / 3, 1 / (1 + torch.e**-2), 1.0])


def test_nearest_row_and_its_distance_are_exact() -> None:
    reference_mD = torch.randn(700, 5, generator=torch.Generator().manual_seed(0))
    value_nD = reference_mD[[3, 699, 41]] + torch.tensor(
        [[0.03, 0, 0, 0, 0], [0, 0, 0, 0.004, 0], [0, 0, 0, 0, 0]]
    )
    found = nearest_rows(value_nD, reference_mD)
    assert found.index_n.tolist() == [3, 699, 41]
    assert found.distance_n.tolist() == pytest.approx([0.03, 0.004, 0.0], abs=1e-6)


def test_distances_of_a_planted_neighbour() -> None:
    """Brightness and contrast change the pixels but not the correlation."""
    reference_mCHW = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    features_mD = torch.arange(20.0)[:, None] * torch.ones(3)
    found = ReferenceImages(reference_mCHW, features_mD).nearest(
        0.5 * reference_mCHW[[7]] + 0.25,
        FeatureSet(reference_mCHW[[7]], torch.zeros(1, 2), torch.tensor([[4.0, 4.0, 5.0]])),
    )
    assert found["correlation"].index_n.tolist() == [7]
    assert float(found["correlation"].distance_n) == pytest.approx(1.0, abs=1e-5)
    assert found["feature"].index_n.tolist() == [4]
    assert float(found["feature"].distance_n) == pytest.approx(1.0)
    shifted = ReferenceImages(reference_mCHW).nearest(reference_mCHW[[2]] + 0.125)
    assert float(shifted["rms"].distance_n) == pytest.approx(0.125, abs=1e-6)
    assert set(shifted) == {"rms", "correlation"}


@pytest.fixture(scope="module")
def inverted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inverted") / "run"
    run(
        netinv_lightning.compose(
            [
                *DATA,
                *FEW_STEPS,
                "application.steps=40",
                "application.batch_size=16",
                "application.checkpoint_every=1000",
            ]
        ),
        path,
    )
    return path


def counterfeits(inverted: Path, to: Path, *overrides: str) -> dict[str, float]:
    command = [
        "application=counterfeit",
        f"application.run={inverted}",
        "application.samples=60",
        "application.verifiers=[mnist_mlp]",
    ]
    return run(netinv_lightning.compose([*command, *overrides]), to)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_at_confidence_0_every_image_is_a_counterfeit(inverted: Path, tmp_path: Path) -> None:
    metrics = counterfeits(inverted, tmp_path / "all", "application.confidence=0")
    rows = rows_of(tmp_path / "all" / "counterfeits.csv")
    assert metrics[names.COUNTERFEIT_SUCCESS] == 1
    assert sorted(int(row["image"]) for row in rows) == list(range(60))
    log_odds = [float(row["log_odds"]) for row in rows]
    assert log_odds == sorted(log_odds, reverse=True)
    kept = load_file(tmp_path / "all" / "samples" / "counterfeits.safetensors")
    assert kept["images"].shape == (60, 1, 28, 28)
    confidences = [float(row["confidence"]) for row in rows]
    assert metrics[names.counterfeit("counterfeits", "confidence")] == pytest.approx(
        sum(confidences) / 60
    )
    assert metrics[names.counterfeit("inverted", "confidence")] == pytest.approx(
        sum(confidences) / 60
    )
    unrecognised = sum(row["mnist_mlp_says"] != row["class"] for row in rows)
    assert metrics[names.COUNTERFEIT_UNRECOGNISED] == pytest.approx(unrecognised / 60)
    assert (tmp_path / "all" / "figures" / "counterfeits.png").is_file()


def test_the_config_names_the_run_its_data_and_its_classifier(
    inverted: Path, tmp_path: Path
) -> None:
    """`runs/latest` is a link, which this command moves.

    The command names neither data nor classifier.
    """
    (tmp_path / "latest").symlink_to(inverted)
    counterfeits(tmp_path / "latest", tmp_path / "run", "application.confidence=0.5")
    kept = read_config(tmp_path / "run")
    assert kept.application.run == str(inverted)
    assert (kept.data.name, kept.classifier.zoo) == ("mnist5k", "mnist_cnn")
    facts = {name: shown.text for name, shown in read_run(tmp_path / "run").facts}
    assert (facts["data"], facts["classifier"]) == ("mnist5k", "mnist_cnn (zoo)")


def test_counterfeits_are_the_images_above_the_threshold(inverted: Path, tmp_path: Path) -> None:
    metrics = counterfeits(inverted, tmp_path / "some", "application.confidence=0.5")
    rows = rows_of(tmp_path / "some" / "counterfeits.csv")
    assert 0 < len(rows) < 60
    assert min(float(row["confidence"]) for row in rows) >= 0.5
    assert metrics[names.COUNTERFEIT_SUCCESS] == pytest.approx(len(rows) / 60)
    summary = {row["set"]: row for row in rows_of(tmp_path / "some" / "counterfeit.csv")}
    assert [*summary] == ["inverted images", "counterfeits", "real test images", "noise"]
    assert int(summary["counterfeits"]["images"]) == len(rows)
    of = {
        name: metrics[names.counterfeit(name, "rms")] for name in ("real", "counterfeits", "noise")
    }
    assert of["real"] < of["counterfeits"] < of["noise"]
    assert metrics[names.counterfeit("real", "verified/mnist_mlp")] > 0.9
    assert metrics[names.counterfeit("noise", "verified/mnist_mlp")] < 0.4


def test_a_run_without_counterfeits_succeeds(
    inverted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = counterfeits(inverted, tmp_path / "none", "application.confidence=1")
    assert metrics[names.COUNTERFEIT_SUCCESS] == 0
    assert rows_of(tmp_path / "none" / "counterfeits.csv") == []
    assert (
        "none of 60 images reaches confidence 1 in its class; lower application.confidence"
        in capsys.readouterr().out
    )
    assert not (tmp_path / "none" / "figures" / "counterfeits.png").exists()
    assert json.loads((tmp_path / "none" / "status.json").read_text())["state"] == "done"


def test_without_data_no_distance_is_reported(
    inverted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "netinv_lightning.applications.counterfeit.open_test_data",
        lambda cfg, spec: (None, "no real data: not there"),
    )
    metrics = counterfeits(
        inverted, tmp_path / "alone", "application.confidence=0", "application.verifiers=[]"
    )
    assert not any(
        name.endswith(("/rms", "/correlation", "/feature")) or "/real/" in name for name in metrics
    )
    assert (
        "no distances: no real data: not there"
        in (tmp_path / "alone" / "counterfeit.md").read_text()
    )
    assert (tmp_path / "alone" / "figures" / "counterfeits.png").is_file()


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["application.confidence=1.5"], r"application.confidence=1.5: must be from 0 to 1"),
        (["application.samples=0"], r"application.samples=0: must be 1 or more"),
        (
            ["application.verifiers=[mnist_cnn]"],
            r"application.verifiers=mnist_cnn: is the classifier that is inverted",
        ),
        (
            ["application.verifiers=[cifar10_vit]"],
            r"application.verifiers=cifar10_vit: has channels=3",
        ),
        (
            ["application.verifiers=[mnist_mpl]"],
            r"application.verifiers=mnist_mpl: is not in the zoo; did you mean 'mnist_mlp'",
        ),
        (
            ["classifier.zoo=mnist_mlp"],
            r"classifier.zoo=mnist_mlp: the run inverted another classifier, mnist_cnn. "
            r"Remove classifier.zoo",
        ),
        (
            ["classifier=resnet"],
            r"classifier.network=.*ResNet'}: the run inverted another classifier, mnist_cnn. "
            r"Remove classifier.network",
        ),
    ],
)
def test_invalid_input_gives_one_line(inverted: Path, overrides: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line) as error:
        make_application(
            netinv_lightning.compose(
                ["application=counterfeit", f"application.run={inverted}", *overrides]
            )
        )
    assert "\n" not in str(error.value)
