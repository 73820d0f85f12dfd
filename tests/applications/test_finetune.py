"""Fine-tuning with inverted images: before, after, and compared with controls."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.applications import make_application
from netinv_lightning.classifiers.build import load_carded, load_zoo
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.downstream.classifier_predictions import predict
from netinv_lightning.downstream.finetuning import (
    LabelledImages,
    correct_under_attack,
    evaluate_classifier,
    fine_tune,
)
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.run import run
from tests.conftest import FEW_STEPS

SPEC = DataSpec("made_up", 2, 1, 2, (0.0,), (1.0,), ("dark", "bright"))
ARMS = ("before", "real", "inverted")


def brightness(slope: float = 10.0) -> Classifier:
    """Return a classifier with logits 0 and slope * (sum of the four pixels - 2).

    It predicts class 1 above a mean of 0.5.
    """
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    linear = network[1]
    assert isinstance(linear, nn.Linear)
    linear.weight.data = torch.stack([torch.zeros(4), torch.full((4,), slope)])
    linear.bias.data = torch.tensor([0.0, -2 * slope])
    return Classifier(network, SPEC).eval().requires_grad_(False)


def flat(*greys: float) -> Tensor:
    return torch.tensor(greys).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()


def attack(radius: float) -> Perturbation:
    return Perturbation("linf", radius, "adversarial", 10)


def test_robust_accuracy_of_a_known_margin() -> None:
    """The Linf distance of an image of grey value g from the boundary is |g - 0.5|."""
    images, label_n = flat(0.1, 0.35, 0.45, 0.55, 0.65, 0.9), torch.tensor([0, 0, 0, 1, 1, 1])
    assert correct_under_attack(brightness(), (images, label_n), attack(0.1), 0).tolist() == [
        True,
        True,
        False,
        False,
        True,
        True,
    ]
    assert correct_under_attack(brightness(), (images, label_n), attack(0.2), 0).tolist() == [
        True,
        False,
        False,
        False,
        False,
        True,
    ]


def test_without_a_radius_robust_accuracy_equals_accuracy() -> None:
    images = torch.rand(50, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    label_n = torch.arange(50) % 2
    found = evaluate_classifier(brightness(), (images, label_n), attack(0.0), 50)
    assert found.robust_accuracy == found.accuracy
    worse = evaluate_classifier(brightness(), (images, label_n), attack(0.1), 50)
    assert worse.robust_accuracy < worse.accuracy == found.accuracy


def test_an_attack_that_corrects_a_prediction_adds_no_robustness() -> None:
    """A misclassified image is not counted as correct if the attack changes the prediction."""
    images, label_n = flat(0.45), torch.tensor([1])
    assert (
        evaluate_classifier(
            brightness(), (images, label_n), Perturbation("linf", 0.2, "random"), 1
        ).robust_accuracy
        == 0
    )


def test_calibration_by_hand() -> None:
    """With log-odds of ln 3 the confidence is 3/4, and one of two predictions is correct."""
    slope = 10.0
    grey = 0.5 + math.log(3) / (4 * slope)
    found = evaluate_classifier(
        brightness(slope), (flat(grey, grey), torch.tensor([1, 0])), attack(0.0), 2
    )
    assert found.accuracy == 0.5
    assert found.ece == pytest.approx(0.25, abs=1e-5)
    assert found.brier == pytest.approx((2 / 16 + 2 * 9 / 16) / 2, abs=1e-5)
    assert found.nll == pytest.approx((-math.log(0.75) - math.log(0.25)) / 2, abs=1e-5)


def images_of(seed: int, split: float) -> LabelledImages:
    """Return random images with label 1 if their mean is above `split`."""
    x_nCHW = torch.rand(400, 1, 2, 2, generator=torch.Generator().manual_seed(seed))
    return x_nCHW, (x_nCHW.mean(dim=(1, 2, 3)) > split).long()


def test_training_follows_the_majority_of_each_batch() -> None:
    """Two kinds of images contradict each other, and the kind with the larger share wins."""
    real, extra, test = images_of(1, 0.5), images_of(2, 0.7), images_of(3, 0.7)
    before = evaluate_classifier(brightness(), test, attack(0.0), 1).accuracy
    real_alone = fine_tune(brightness(), real, steps=150, lr=0.5, seed=5)
    mixed = fine_tune(brightness(), real, extra, 0.9, steps=150, lr=0.5, seed=5)
    assert evaluate_classifier(real_alone, test, attack(0.0), 1).accuracy == pytest.approx(
        before, abs=0.1
    )
    assert evaluate_classifier(mixed, test, attack(0.0), 1).accuracy > before + 0.1


def test_the_seed_determines_the_weights_and_a_share_may_be_0() -> None:
    real, extra = images_of(1, 0.5), images_of(2, 0.7)
    classifiers = [brightness() for _ in range(5)]
    before = torch.get_rng_state()
    weights = [
        fine_tune(
            classifier, real, *given, steps=5, shift=1, flip=True, attack=attack(0.1), seed=seed
        ).state_dict()["network.1.weight"]
        for classifier, given, seed in zip(
            classifiers, [(extra, 0.5)] * 3 + [(), (extra, 0.0)], [5, 5, 6, 5, 5], strict=True
        )
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[3])
    assert torch.equal(weights[3], weights[4])
    assert torch.equal(torch.get_rng_state(), before)


COMMAND = [
    "application=finetune",
    "data=mnist5k",
    "application.steps=2",
    "application.images=30",
    "application.attack_steps=2",
]
COMMAND += ["application.attacked=20", "data.batch_size=20", "data.subset_size=100"]


def test_before_control_and_after_are_in_one_table(inverted: Path, tmp_path: Path) -> None:
    metrics = run(
        netinv_lightning.compose([*COMMAND, f"application.run={inverted}"]), tmp_path / "tuned"
    )
    with (tmp_path / "tuned" / "finetuning.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in rows] == [
        metrics[names.finetune(arm, "accuracy")] for arm in ARMS
    ]
    for arm in ARMS:
        assert metrics[names.finetune(arm, "accuracy")] > 0.9
        assert 0 <= metrics[names.finetune(arm, "ece")] < 0.2
    assert "drawn from 100 real ones" in (tmp_path / "tuned" / "finetuning.md").read_text()
    images_nCHW, label_n = ImageDataModule("mnist5k").test
    before = float((predict(load_zoo("mnist_mlp"), images_nCHW) == label_n).double().mean())
    assert metrics[names.finetune("before", "accuracy")] == before
    tuned = load_carded(tmp_path / "tuned" / "classifier.safetensors", "classifier.path")
    after = float((predict(tuned, images_nCHW) == label_n).double().mean())
    assert metrics[names.FINETUNE_ACCURACY] == after
    assert (tmp_path / "tuned" / "figures" / "finetuning.png").is_file()
    card = json.loads((tmp_path / "tuned" / "classifier.json").read_text())
    assert card["test_accuracy"] == round(after, 4)
    assert card["recipe"]["from"] == "mnist_mlp"
    assert card["recipe"]["trained_before"]  # so that no training image counts as held out
    assert [card["recipe"][key] for key in ("subset_size", "val_fraction", "split_seed")] == [
        100,
        0.1,
        0,
    ]


def test_adversarial_images_have_their_own_control(inverted: Path, tmp_path: Path) -> None:
    overrides = [
        f"application.run={inverted}",
        "application.kind=adversarial",
        "application.radius=0.1",
    ]
    metrics = run(netinv_lightning.compose([*COMMAND, *overrides]), tmp_path / "tuned")
    kinds = {name.split("/")[1] for name in metrics if name.startswith("finetune/")}
    assert kinds == {"before", "real", "real_adversarial", "inverted"}
    # The fine-tuned classifier can be inverted again.
    again = [
        "data=mnist5k",
        *FEW_STEPS,
        "classifier=checkpoint",
        f"classifier.path={tmp_path / 'tuned' / 'classifier.safetensors'}",
    ]
    assert names.INVERSION_ACCURACY in run(netinv_lightning.compose(again), tmp_path / "again")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["application.kind=labelz"], r"application.kind=labelz: did you mean 'labels'"),
        (["application.share=1.2"], r"application.share=1.2: must be from 0 to 1"),
        (["application.radius=2"], r"application.radius=2.0: must be from 0 to 1"),
        (["application.lr=0"], r"application.lr=0.0: must be above 0"),
        (["application.attacked=0"], r"application.attacked=0: must be 1 or more"),
        (["data.subset_size=100000"], r"data.subset_size=100000: must be from 2 to"),
    ],
)
def test_invalid_input_gives_one_line(inverted: Path, overrides: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line) as error:
        make_application(
            netinv_lightning.compose([*COMMAND, f"application.run={inverted}", *overrides])
        )
    assert "\n" not in str(error.value)


def test_fine_tuning_needs_real_images(
    tmp_path: Path, inverted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "netinv_lightning.downstream.build.open_test_data",
        lambda cfg, spec: (None, "no real data: not there"),
    )
    with pytest.raises(
        InputError,
        match=r"fine-tuning needs real training and test images; no real data: not there",
    ):
        make_application(netinv_lightning.compose([*COMMAND, f"application.run={inverted}"]))
