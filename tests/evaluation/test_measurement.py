"""All metrics of a set of images: real digits, noise and copies of one digit, against MNIST's classifiers of the zoo.

Shape suffixes: n images, N classes.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation import measurement as module
from netinv_lightning.evaluation.image_sets import Images, halves_of_test, of_split
from netinv_lightning.evaluation.measurement import ALL, REAL_IMAGES, Measurement

VERIFIERS = ("mnist_resnet", "mnist_mlp")
NEED_REAL = ("manifold", "fid", "c2st", "cas")


def networks() -> dict[str, FrozenClassifier]:
    return {name: load_zoo(name) for name in VERIFIERS}


@pytest.fixture(scope="module")
def real() -> ImageDataModule:
    return ImageDataModule(name="mnist5k")


@pytest.fixture(scope="module")
def digits(real: ImageDataModule) -> Images:
    return of_split(halves_of_test(real)[1], REAL_IMAGES)


@pytest.fixture(scope="module")
def measurement(real: ImageDataModule) -> Measurement:
    return Measurement(load_zoo("mnist_cnn"), networks(), real)


@pytest.fixture(scope="module")
def of_digits(measurement: Measurement, digits: Images) -> dict[str, float]:
    return measurement(digits)


def noise(n: int = 200) -> Images:
    return Images(
        torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 10
    )


def test_halves_of_the_test_images_share_none(real: ImageDataModule) -> None:
    judging, measured = halves_of_test(real)
    assert len(judging[1]) + len(measured[1]) == len(real.test[1])
    assert {image.numpy().tobytes() for image in judging[0]}.isdisjoint(
        image.numpy().tobytes() for image in measured[0]
    )
    assert judging[1].bincount().tolist() == [50] * 10


def test_every_metric_has_its_name(measurement: Measurement, of_digits: dict[str, float]) -> None:
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
    and_of_each = {names.TRANSFER_ACCURACY, names.TRANSFER_CEILING, names.VENDI, names.VENDI_CLASS}
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
    assert of_digits.keys() - {names.LPIPS} == expected
    assert all(math.isfinite(value) for value in of_digits.values())
    assert measurement.minimum == 129  # a covariance over the 128 features of the networks


def test_agreement_is_that_of_the_networks(
    of_digits: dict[str, float], digits: Images, real: ImageDataModule
) -> None:
    def agreement(network: FrozenClassifier, images_nCHW: Tensor, labels_n: Tensor) -> float:
        with torch.no_grad():
            return (network(images_nCHW).argmax(dim=1) == labels_n).double().mean().item()

    test = real.test[0].float() / 255, real.test[1]
    assert of_digits[names.INVERSION_ACCURACY] == pytest.approx(
        agreement(load_zoo("mnist_cnn"), digits.images_nCHW, digits.labels_n)
    )
    ceilings = []
    for name, network in networks().items():
        assert of_digits[f"transfer/accuracy/{name}"] == pytest.approx(
            agreement(network, digits.images_nCHW, digits.labels_n), abs=0.005
        )
        ceilings.append(agreement(network, *test))
        assert of_digits[f"transfer/ceiling/{name}"] == pytest.approx(ceilings[-1], abs=0.002)
    assert ceilings[0] != ceilings[1]
    assert of_digits[names.TRANSFER_CEILING] == pytest.approx(sum(ceilings) / 2, abs=0.002)


def test_real_digits_are_like_real_digits_and_noise_is_not(
    measurement: Measurement, of_digits: dict[str, float]
) -> None:
    of_noise = measurement(noise())
    for verifier in VERIFIERS:
        assert of_digits[f"fidelity/precision/{verifier}"] > 0.8
        assert of_digits[f"diversity/recall/{verifier}"] > 0.8
        assert of_digits[f"fidelity/c2st/{verifier}"] < 0.65
        assert of_noise[f"fidelity/precision/{verifier}"] < 0.3
        assert of_noise[f"fidelity/c2st/{verifier}"] > 0.95
        for distance in ("fid", "kid"):
            assert (
                of_noise[f"fidelity/{distance}/{verifier}"]
                > 10 * of_digits[f"fidelity/{distance}/{verifier}"]
            )
    assert of_digits[names.CAS] > 0.75
    assert of_noise[names.CAS] < 0.4
    assert of_noise[names.TRANSFER_ACCURACY] < 0.3
    assert of_noise[names.TRANSFER_CEILING] == of_digits[names.TRANSFER_CEILING]


def test_copies_of_a_digit_are_one_digit(real: ImageDataModule) -> None:
    """Collapse onto one image a class: the cosine within a class is 1, the Vendi score of a class 1, all are duplicates."""
    images_nCHW, labels_n = real.test
    firsts = torch.stack([(labels_n == label).nonzero()[0, 0] for label in range(10)]).repeat(20)
    copies = Images(images_nCHW[firsts].float() / 255, labels_n[firsts])
    values = Measurement(load_zoo("mnist_cnn"), networks(), None, metrics=("diversity",))(copies)
    assert values[names.DUPLICATES] == 1
    for network in ("", *(f"/{name}" for name in VERIFIERS)):
        assert values[f"{names.INTRA_CLASS_COSINE}{network}"] == pytest.approx(1, abs=1e-5)
        assert values[f"{names.VENDI_CLASS}{network}"] == pytest.approx(1, abs=1e-4)
        assert 1.5 < values[f"{names.VENDI}{network}"] <= 10


def test_kl_is_to_the_conditioning_distribution(measurement: Measurement) -> None:
    """Of the classifier's own softmax as target it is 0."""
    accuracy = Measurement(measurement.classifier, {}, None, metrics=("accuracy",))
    images = noise()
    with torch.no_grad():
        own_nN = measurement.classifier(images.images_nCHW).softmax(dim=1)
    assert accuracy(replace(images, targets_nN=own_nN))[names.INVERSION_KL] == pytest.approx(
        0, abs=1e-5
    )
    one_hot = -own_nN.gather(1, images.labels_n[:, None]).double().log().mean().item()
    assert accuracy(images)[names.INVERSION_KL] == pytest.approx(one_hot, rel=1e-4)


def test_the_same_seed_measures_the_same(real: ImageDataModule) -> None:
    chosen = ("stability", "manifold", "fid", "c2st")
    one, again = (
        Measurement(load_zoo("mnist_cnn"), networks(), real, chosen, seed=3) for _ in range(2)
    )
    values = one(noise())
    torch.manual_seed(99)
    assert again(noise()) == pytest.approx(values)
    assert one(noise()) == pytest.approx(values)


# What is skipped, and said to be


def test_without_real_images_what_needs_them_is_left_out() -> None:
    measurement = Measurement(load_zoo("mnist_cnn"), networks(), None)
    for group in NEED_REAL:
        assert "data.root" in measurement.skipped[group]
    assert "data.root" in measurement.skipped[names.TRANSFER_CEILING]
    values = measurement(noise(20))  # none of the groups that need more images is left
    assert names.TRANSFER_ACCURACY in values
    assert not any(
        name.startswith(
            ("fidelity/", "diversity/recall", "diversity/coverage", names.TRANSFER_CEILING)
        )
        for name in values
    )


def test_without_verifiers_what_needs_them_is_left_out(real: ImageDataModule) -> None:
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


def test_no_test_images_and_few_training_images(real: ImageDataModule) -> None:
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


def test_what_has_no_value_is_left_out_and_named() -> None:
    """One class alone has no cosine between classes, and the others have no accuracy."""
    measurement = Measurement(load_zoo("mnist_cnn"), {}, None, metrics=("accuracy", "diversity"))
    values = measurement(replace(noise(20), labels_n=torch.full((20,), 3)))
    assert names.INTER_CLASS_COSINE in measurement.skipped
    assert names.class_accuracy("2") in measurement.skipped
    assert measurement.skipped.keys().isdisjoint(values)
    assert names.class_accuracy("3") in values
    measurement(noise(20))
    assert measurement.skipped == {}


def test_matrices_that_would_be_too_large_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VENDI_ENTRIES", 129**2)
    measurement = Measurement(load_zoo("mnist_cnn"), {}, None, metrics=("diversity",))
    assert measurement.skipped.keys() == {names.VENDI_CLASS}
    pooled = measurement(noise(50))
    assert names.VENDI_CLASS not in pooled
    monkeypatch.setattr(module, "VENDI_ENTRIES", 2**26)
    both = Measurement(load_zoo("mnist_cnn"), {}, None, metrics=("diversity",))(noise(50))
    assert pooled[names.VENDI] == pytest.approx(both[names.VENDI])
    monkeypatch.setattr(module, "VENDI_FEATURES", 127)
    measurement = Measurement(load_zoo("mnist_cnn"), {}, None, metrics=("diversity",))
    assert measurement.skipped.keys() == {names.VENDI, names.VENDI_CLASS}
    assert names.VENDI not in measurement(noise(50))


# Bad input


def test_a_verifier_that_is_the_classifier_itself() -> None:
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


def test_networks_and_data_of_another_shape() -> None:
    with pytest.raises(
        InputError, match=r"application.verifiers=cifar10_vit: has channels=3, .* channels=1"
    ):
        Measurement(load_zoo("mnist_cnn"), {"cifar10_vit": load_zoo("cifar10_vit")}, None)
    with pytest.raises(
        InputError,
        match=r"data=mnist5k: the classifier was trained on cifar10, as its card says; name that, with data=cifar10",
    ):
        Measurement(load_zoo("cifar10_cnn"), {}, ImageDataModule(name="mnist5k"))


def test_unknown_metrics() -> None:
    with pytest.raises(InputError, match=r"measure.metrics=manifolds: .*did you mean 'manifold'"):
        Measurement(load_zoo("mnist_cnn"), {}, None, metrics=[*ALL, "manifolds"])


def test_too_few_images_name_the_minimum(measurement: Measurement) -> None:
    with pytest.raises(
        InputError, match=r"samples=128: too few images, measure.metrics=fid needs 129 or more"
    ):
        measurement(noise(128))
    fewest = Measurement(
        load_zoo("mnist_cnn"), networks(), measurement.real, metrics=("accuracy", "manifold")
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
            "3 of 20 images hold NaN",
        ),
        (
            {
                "images_nCHW": torch.full((20, 1, 28, 28), 0.5).index_fill_(
                    0, torch.tensor([2]), math.inf
                )
            },
            "1 of 20 images hold NaN or inf",
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
        ({"targets_nN": torch.rand(20, 9)}, r"conditioning is of shape \(20, 9\), .*\(20, 10\)"),
    ],
)
def test_what_are_no_images(broken: dict[str, Tensor], line: str) -> None:
    measurement = Measurement(load_zoo("mnist_cnn"), {}, None, metrics=("accuracy",))
    with pytest.raises(InputError, match=f"samples: .*{line}"):
        measurement(replace(noise(20), **broken))
