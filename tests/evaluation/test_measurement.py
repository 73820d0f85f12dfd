"""Metrics of real digits, noise and copies of one digit, with the zoo's MNIST classifiers.

Shape suffixes: n images, N classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.measurement import Measurement
from netinv_lightning.evaluation.metric_groups import diversity
from netinv_lightning.evaluation.metric_groups.group import MetricGroup
from netinv_lightning.evaluation.real_data import REAL_IMAGES, halves_of_test, of_split
from netinv_lightning.metric_names import METRIC_GROUPS
from tests.evaluation.conftest import VERIFIERS, networks, noise

NEED_REAL = ("manifold", "fid", "c2st", "cas")


@pytest.fixture(scope="module")
def digits(real: ImageDataModule) -> Images:
    return of_split(halves_of_test(real)[1], REAL_IMAGES)


@pytest.fixture(scope="module")
def digit_metrics(measurement: Measurement, digits: Images) -> dict[str, float]:
    return measurement(digits)


def test_halves_of_the_test_images_are_disjoint(real: ImageDataModule) -> None:
    evaluating, measured = halves_of_test(real)
    assert len(evaluating[1]) + len(measured[1]) == len(real.test[1])
    assert {image.numpy().tobytes() for image in evaluating[0]}.isdisjoint(
        image.numpy().tobytes() for image in measured[0]
    )
    assert evaluating[1].bincount().tolist() == [50] * 10


def test_every_metric_has_its_name(
    measurement: Measurement, digit_metrics: dict[str, float]
) -> None:
    alone = {
        names.INVERSION_ACCURACY,
        names.INVERSION_CONFIDENCE,
        names.INVERSION_MARGIN,
        names.INVERSION_KL,
        names.DUPLICATES,
        names.CAS,
    }
    alone |= {names.class_accuracy(str(label)) for label in range(10)}
    alone |= {f"stability/{kind}" for kind in ("quantised", "blur", "shift", "l1", "l2", "linf")}
    and_of_each = {names.TRANSFER_ACCURACY, names.TRANSFER_TOP5, names.TRANSFER_CEILING}
    and_of_each |= {names.TRANSFER_WORST_CLASS}
    and_of_each |= {names.class_accuracy(str(k), names.TRANSFER_ACCURACY) for k in range(10)}
    and_of_each |= {names.VENDI, names.VENDI_CLASS}
    and_of_each |= {names.INTRA_CLASS_COSINE, names.INTER_CLASS_COSINE}
    of_each = {
        names.PRECISION,
        names.DENSITY,
        names.RECALL,
        names.COVERAGE,
        names.FID,
        names.KID,
        names.C2ST,
    }
    expected = (
        alone
        | and_of_each
        | {f"{name}/{verifier}" for name in and_of_each | of_each for verifier in VERIFIERS}
    )
    assert digit_metrics.keys() - {names.LPIPS} == expected
    assert all(math.isfinite(value) for value in digit_metrics.values())
    assert measurement.minimum == 129  # a covariance over the 128 features of the networks


def test_accuracy_equals_the_agreement_of_the_networks(
    digit_metrics: dict[str, float], digits: Images, real: ImageDataModule
) -> None:
    def agreement(network: FrozenClassifier, images_nCHW: Tensor, labels_n: Tensor) -> float:
        with torch.no_grad():
            return (network(images_nCHW).argmax(dim=1) == labels_n).double().mean().item()

    test = real.test[0].float() / 255, real.test[1]
    assert digit_metrics[names.INVERSION_ACCURACY] == pytest.approx(
        agreement(load_zoo("mnist_cnn"), digits.images_nCHW, digits.labels_n)
    )
    ceilings = []
    for name, network in networks().items():
        assert digit_metrics[f"transfer/accuracy/{name}"] == pytest.approx(
            agreement(network, digits.images_nCHW, digits.labels_n), abs=0.005
        )
        ceilings.append(agreement(network, *test))
        assert digit_metrics[f"transfer/ceiling/{name}"] == pytest.approx(ceilings[-1], abs=0.002)
    assert ceilings[0] != ceilings[1]
    assert digit_metrics[names.TRANSFER_CEILING] == pytest.approx(sum(ceilings) / 2, abs=0.002)


def test_metrics_separate_real_digits_from_noise(
    measurement: Measurement, digit_metrics: dict[str, float]
) -> None:
    noise_metrics = measurement(noise())
    for verifier in VERIFIERS:
        assert digit_metrics[f"fidelity/precision/{verifier}"] > 0.8
        assert digit_metrics[f"diversity/recall/{verifier}"] > 0.8
        assert digit_metrics[f"fidelity/c2st/{verifier}"] < 0.65
        assert noise_metrics[f"fidelity/precision/{verifier}"] < 0.3
        assert noise_metrics[f"fidelity/c2st/{verifier}"] > 0.95
        for distance in ("fid", "kid"):
            assert (
                noise_metrics[f"fidelity/{distance}/{verifier}"]
                > 10 * digit_metrics[f"fidelity/{distance}/{verifier}"]
            )
    assert digit_metrics[names.CAS] > 0.75
    assert noise_metrics[names.CAS] < 0.4
    assert noise_metrics[names.TRANSFER_ACCURACY] < 0.3
    assert noise_metrics[names.TRANSFER_CEILING] == digit_metrics[names.TRANSFER_CEILING]


def test_copies_of_one_image_have_no_diversity(real: ImageDataModule) -> None:
    """With one image per class, cosine and Vendi score per class are 1; all are duplicates."""
    images_nCHW, labels_n = real.test
    firsts = torch.stack([(labels_n == label).nonzero()[0, 0] for label in range(10)]).repeat(20)
    copies = Images(images_nCHW[firsts].float() / 255, labels_n[firsts])
    values = Measurement(load_zoo("mnist_cnn"), networks(), None, metrics=("diversity",))(copies)
    assert values[names.DUPLICATES] == 1
    for network in ("", *(f"/{name}" for name in VERIFIERS)):
        assert values[f"{names.INTRA_CLASS_COSINE}{network}"] == pytest.approx(1, abs=1e-5)
        assert values[f"{names.VENDI_CLASS}{network}"] == pytest.approx(1, abs=1e-4)
        assert 1.5 < values[f"{names.VENDI}{network}"] <= 10


def test_kl_compares_with_the_conditioning_distribution(measurement: Measurement) -> None:
    """The KL is 0 if the target is the classifier's own softmax."""
    accuracy = Measurement(measurement.context.classifier, {}, None, metrics=("accuracy",))
    images = noise()
    with torch.no_grad():
        own_nN = measurement.context.classifier(images.images_nCHW).softmax(dim=1)
    assert accuracy(replace(images, targets_nN=own_nN))[names.INVERSION_KL] == pytest.approx(
        0, abs=1e-5
    )
    one_hot = -own_nN.gather(1, images.labels_n[:, None]).double().log().mean().item()
    assert accuracy(images)[names.INVERSION_KL] == pytest.approx(one_hot, rel=1e-4)


def test_the_same_seed_gives_the_same_values(real: ImageDataModule) -> None:
    chosen = ("stability", "manifold", "fid", "c2st")
    network, verifiers = load_zoo("mnist_mlp"), {"mnist_cnn": load_zoo("mnist_cnn")}
    one, again = (Measurement(network, verifiers, real, chosen, seed=3) for _ in range(2))
    values = one(noise(140))
    torch.manual_seed(99)
    assert again(noise(140)) == pytest.approx(values)
    assert one(noise(140)) == pytest.approx(values)


# Skipped metrics


def test_metrics_that_need_real_images_are_skipped() -> None:
    measurement = Measurement(load_zoo("mnist_cnn"), networks(), None)
    for group in NEED_REAL:
        assert "data.root" in measurement.skipped[group]
    assert "data.root" in measurement.skipped[names.TRANSFER_CEILING]
    values = measurement(noise(20))  # groups that need more images are skipped
    assert names.TRANSFER_ACCURACY in values
    assert not any(
        name.startswith(
            ("fidelity/", "diversity/recall", "diversity/coverage", names.TRANSFER_CEILING)
        )
        for name in values
    )


def test_metrics_that_need_verifiers_are_skipped(real: ImageDataModule) -> None:
    measurement = Measurement(
        load_zoo("mnist_cnn"), {}, real, metrics=("accuracy", "transfer", "manifold", "fid", "c2st")
    )
    assert measurement.skipped.keys() == {"transfer", "manifold", "fid", "c2st"}
    assert all("application.verifiers" in reason for reason in measurement.skipped.values())
    assert names.INVERSION_ACCURACY in measurement(noise(10))


def test_lpips_is_skipped_without_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", "/nowhere")
    measurement = Measurement(load_zoo("mnist_cnn"), {}, None, metrics=("lpips",))
    assert "alexnet" in measurement.skipped["lpips"]
    assert measurement(noise(10)) == {}


def test_groups_without_enough_real_images_are_skipped(real: ImageDataModule) -> None:
    few = deepcopy(real)
    few.train = (real.train[0][:50], real.train[1][:50])
    few.test = (real.test[0][:0], real.test[1][:0])
    measurement = Measurement(
        load_zoo("mnist_cnn"), networks(), few, metrics=("transfer", "manifold", "fid", "cas")
    )
    assert measurement.skipped.keys() == {names.TRANSFER_CEILING, "fid", "cas"}
    assert "50 real training images" in measurement.skipped["fid"]
    assert "data.test_path" in measurement.skipped["cas"]
    assert names.TRANSFER_CEILING not in measurement(noise(10))


def test_undefined_values_are_left_out_and_listed() -> None:
    """With images of one class, the cosine between classes and other accuracies are undefined."""
    measurement = Measurement(load_zoo("mnist_cnn"), {}, None, metrics=("accuracy", "diversity"))
    values = measurement(replace(noise(20), labels_n=torch.full((20,), 3)))
    assert names.INTER_CLASS_COSINE in measurement.skipped
    assert names.class_accuracy("2") in measurement.skipped
    assert measurement.skipped.keys().isdisjoint(values)
    assert names.class_accuracy("3") in values
    measurement(noise(20))
    assert measurement.skipped == {}


def test_vendi_scores_with_too_large_matrices_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diversity, "VENDI_ENTRIES", 129**2)
    measurement = Measurement(load_zoo("mnist_cnn"), {}, None, metrics=("diversity",))
    assert measurement.skipped.keys() == {names.VENDI_CLASS}
    pooled = measurement(noise(50))
    assert names.VENDI_CLASS not in pooled
    monkeypatch.setattr(diversity, "VENDI_ENTRIES", 2**26)
    both = Measurement(load_zoo("mnist_cnn"), {}, None, metrics=("diversity",))(noise(50))
    assert pooled[names.VENDI] == pytest.approx(both[names.VENDI])
    monkeypatch.setattr(diversity, "VENDI_FEATURES", 127)
    measurement = Measurement(load_zoo("mnist_cnn"), {}, None, metrics=("diversity",))
    assert measurement.skipped.keys() == {names.VENDI, names.VENDI_CLASS}
    assert names.VENDI not in measurement(noise(50))


# A user-defined group


class Contrast(MetricGroup):
    """Group with the mean standard deviation of an image's pixels."""

    def compute(self, images: Images, outputs: Mapping[str, FeatureSet]) -> dict[str, float]:
        assert outputs == {}  # no network runs for a group that reads no outputs
        return {"fidelity/contrast": float(images.images_nCHW.flatten(1).std(dim=1).mean())}


def test_a_new_group_needs_only_its_class_and_its_registration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(METRIC_GROUPS, "contrast", f"{__name__}:Contrast")
    values = Measurement(load_zoo("mnist_cnn"), {}, None, metrics=("contrast",))(noise())
    assert values == {"fidelity/contrast": pytest.approx(math.sqrt(1 / 12), abs=0.002)}
