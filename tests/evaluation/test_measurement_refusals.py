"""Images, networks and data that a measurement refuses."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.measurement import Measurement
from netinv_lightning.metric_names import METRIC_GROUPS
from tests.evaluation.conftest import VERIFIERS, networks, noise


def test_the_classifier_is_refused_as_its_own_verifier() -> None:
    classifier = load_zoo("mnist_cnn")
    for same in (
        classifier,
        load_zoo("mnist_cnn"),
        FrozenClassifier(deepcopy(classifier.network), classifier.spec, ("convolutions",)),
    ):
        with pytest.raises(
            InputError, match=r"application.verifiers=again: is the classifier that is inverted"
        ):
            Measurement(classifier, {"mnist_mlp": load_zoo("mnist_mlp"), "again": same}, None)


def test_networks_and_data_must_have_the_shape_of_the_classifier() -> None:
    with pytest.raises(
        InputError, match=r"application.verifiers=cifar10_vit: has channels=3, .* channels=1"
    ):
        Measurement(load_zoo("mnist_cnn"), {"cifar10_vit": load_zoo("cifar10_vit")}, None)
    with pytest.raises(
        InputError,
        match=r"data=mnist5k: the classifier was trained on cifar10 .*data=cifar10",
    ):
        Measurement(load_zoo("cifar10_cnn"), {}, ImageDataModule(name="mnist5k"))


def test_an_unknown_metric_group_is_refused() -> None:
    with pytest.raises(InputError, match=r"measure.metrics=manifolds: .*did you mean 'manifold'"):
        Measurement(load_zoo("mnist_cnn"), {}, None, metrics=[*METRIC_GROUPS, "manifolds"])


def test_too_few_images_are_refused_with_the_minimum(measurement: Measurement) -> None:
    with pytest.raises(
        InputError, match=r"samples=128: too few images. measure.metrics=fid needs 129 or more"
    ):
        measurement(noise(128))
    fewest = Measurement(
        load_zoo("mnist_cnn"),
        networks(),
        measurement.context.real,
        metrics=("accuracy", "manifold"),
    )
    assert fewest.minimum == 6
    with pytest.raises(InputError, match=r"samples=5: .*manifold needs 6"):
        fewest(noise(5))
    assert f"diversity/recall/{VERIFIERS[0]}" in fewest(noise(6))


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        (
            {
                "images_nCHW": torch.full((20, 1, 28, 28), 0.5).index_fill_(
                    0, torch.tensor([1, 7, 9]), math.nan
                )
            },
            "3 of 20 images contain NaN",
        ),
        (
            {
                "images_nCHW": torch.full((20, 1, 28, 28), 0.5).index_fill_(
                    0, torch.tensor([2]), math.inf
                )
            },
            "1 of 20 images contain NaN or inf",
        ),
        (
            {
                "images_nCHW": torch.full((20, 1, 28, 28), 0.5).index_fill_(
                    0, torch.tensor([2, 3]), 1.1
                )
            },
            r"2 of 20 images .*\[0, 1\]",
        ),
        ({"images_nCHW": torch.rand(20, 3, 28, 28)}, r"shape \(3, 28, 28\) .*\(1, 28, 28\)"),
        ({"labels_n": torch.arange(20)}, "10 of 20 labels are not from 0 to 9"),
        ({"labels_n": torch.arange(19) % 10}, "20 images .* with 19 labels"),
        ({"targets_nN": torch.rand(20, 9)}, r"conditioning has shape \(20, 9\); .*\(20, 10\)"),
    ],
)
def test_invalid_images_are_refused(broken: dict[str, Tensor], line: str) -> None:
    measurement = Measurement(load_zoo("mnist_cnn"), {}, None, metrics=("accuracy",))
    with pytest.raises(InputError, match=f"samples: .*{line}"):
        measurement(replace(noise(20), **broken))
