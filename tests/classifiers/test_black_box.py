"""Black boxes: classifiers that only answer, and the estimate of their gradient.

Shape suffixes: B batch, C channels, H height, W width, N classes, P pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from omegaconf import DictConfig

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.black_box import BlackBox, BlackBoxClassifier
from netinv_lightning.errors import InputError
from netinv_lightning.run import run
from tests.classifiers.black_boxes import LINEAR_NP, SPEC, grey, linear_softmax

Compose = Callable[..., DictConfig]


def linear_box(**options: Any) -> BlackBoxClassifier:
    return BlackBoxClassifier(BlackBox(linear_softmax, "network=linear_softmax"), SPEC, **options)


# The estimate


def relative_error(directions: int) -> float:
    """Return the error of the estimated gradient of cross-entropy, relative to the true one."""
    classifier, x_BCHW = linear_box(directions=directions, sigma=0.02), grey(3).requires_grad_()
    label_B = torch.tensor([0, 1, 2])
    loss = F.cross_entropy(classifier(x_BCHW), label_B)
    (estimate_BCHW,) = torch.autograd.grad(loss, x_BCHW)
    weight_NP = torch.from_numpy(LINEAR_NP)
    p_BN = torch.from_numpy(linear_softmax(x_BCHW.detach().numpy()))
    true_BP = (p_BN - F.one_hot(label_B)) @ weight_NP / 3  # of -log softmax(W x), mean over images
    return float((estimate_BCHW.flatten(1) - true_BP).norm() / true_BP.norm())


def test_the_estimate_converges_to_the_gradient_of_a_linear_softmax() -> None:
    """With n directions in d dimensions the expected relative error is sqrt((d + 1) / n)."""
    few, many = relative_error(200), relative_error(20000)
    assert few == pytest.approx((65 / 200) ** 0.5, rel=0.3)
    assert many == pytest.approx((65 / 20000) ** 0.5, rel=0.3)


def test_equal_images_have_equal_estimates() -> None:
    classifier, found = linear_box(directions=7), []
    for _ in range(2):
        torch.manual_seed(len(found))  # the global random state does not count
        x_BCHW = grey(2).requires_grad_()
        found.append(torch.autograd.grad(classifier(x_BCHW).square().sum(), x_BCHW)[0])
    assert torch.equal(found[0], found[1])
    other_BCHW = (grey(2) + 1e-3).requires_grad_()
    (other,) = torch.autograd.grad(classifier(other_BCHW).square().sum(), other_BCHW)
    assert not torch.allclose(other, found[0], rtol=0.1)


def test_queries_are_counted() -> None:
    classifier = linear_box(directions=5)
    counts = classifier.forward_count
    counts.forwards = 0
    classifier(grey(3))
    assert counts.forwards == 3
    logits_BN = classifier(grey(3).requires_grad_())
    assert counts.forwards == 2 * 3
    logits_BN.sum().backward()
    assert (counts.forwards, counts.backwards) == (2 * 3 + 2 * 5 * 3, 0)


def test_queries_stay_in_the_pixel_range_and_in_calls_of_limited_size() -> None:
    asked: list[tuple[int, float, float]] = []

    def record(x_BCHW: np.ndarray) -> np.ndarray:
        asked.append((len(x_BCHW), float(x_BCHW.min()), float(x_BCHW.max())))
        return linear_softmax(x_BCHW)

    classifier = BlackBoxClassifier(BlackBox(record, "record"), SPEC, directions=4500, sigma=2.0)
    asked.clear()
    x_BCHW = torch.zeros(1, 1, 8, 8, requires_grad=True)
    classifier(x_BCHW)[0, 0].backward()
    assert [size for size, _, _ in asked] == [1, 4096, 4096, 808]
    assert all(low == 0 for _, low, _ in asked)
    assert {high for _, _, high in asked[1:]} == {1.0}


def test_a_black_box_has_no_second_derivative() -> None:
    x_BCHW = grey(2).requires_grad_()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(linear_box()(x_BCHW).sum(), x_BCHW, create_graph=True)


def test_without_directions_no_method_gets_a_gradient() -> None:
    classifier = linear_box(directions=0)
    assert not classifier(grey(2).requires_grad_()).requires_grad
    with pytest.raises(InputError, match=r"^classifier\.query_directions=0: a black box has no gr"):
        classifier.check_gradient()


# What a black box may answer


def test_probabilities_become_logits_with_a_floor() -> None:
    logits_BN = linear_box()(grey(2))
    expected_BN = torch.from_numpy(linear_softmax(grey(2).numpy())).log().clamp_min(-14)
    torch.testing.assert_close(logits_BN, expected_BN)


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: np.arange(len(x)) % 3,
        lambda x: torch.arange(len(x)) % 3,
        lambda x: np.eye(3)[np.arange(len(x)) % 3],
    ],
)
def test_labels_are_read_but_have_no_gradient(answer: Any) -> None:
    classifier = BlackBoxClassifier(BlackBox(answer, "network=mine"), SPEC)
    assert classifier.access == "labels"
    logits_BN = classifier(grey(4).requires_grad_())
    assert logits_BN.argmax(dim=1).tolist() == [0, 1, 2, 0]
    assert logits_BN.max() == 0
    assert not logits_BN.requires_grad
    with pytest.raises(InputError, match=r"^network=mine: returns labels, from which no gradient"):
        classifier.check_gradient()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda x: np.arange(len(x)), r"returns labels from 0 to 4; .* 0 to classes - 1 = 2$"),
        (lambda x: np.ones((2, 3)) / 3, r"float64 of shape \[2, 3\] for 5 images"),
        (lambda x: ["cat"] * len(x), r"returns <U3 of shape \[5\]"),
        (lambda x: 1 / 0, r"fails for images of shape \[5, 1, 8, 8\] \(ZeroDivisionError"),
        (lambda x: np.full((len(x), 3), np.nan), "returns NaN or infinity"),
        (lambda x: np.ones((len(x), 4)), "classifier.num_classes=3: the network returns"),
    ],
)
def test_other_answers_are_refused(answer: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        BlackBoxClassifier(BlackBox(answer, "network=mine"), SPEC)


# Runs


def test_the_mlp_of_the_zoo_is_inverted_by_its_answers(compose: Compose, job_dir: Path) -> None:
    cfg = compose(
        "classifier=black_box",
        "classifier.callable=tests.classifiers.black_boxes:mnist_mlp",
        "classifier.query_directions=15",
        "application.steps=100",
        "application.batch_size=32",
        "application.checkpoint_every=1000",
    )
    metrics = run(cfg, job_dir)
    assert metrics[names.QUERIES] == 100 * 32 * (1 + 2 * 15)
    assert metrics[names.CLASSIFIER_BACKWARDS] == 0
    assert metrics[names.INVERSION_ACCURACY_HOT] > 0.8


@pytest.mark.parametrize("method", ["generator", "gradient"])
def test_a_function_is_inverted_in_python(method: str) -> None:
    overrides = ["generator=tiny", "application.steps=2", "application.batch_size=4"]
    if method == "gradient":
        overrides = ["method=gradient", "method.steps=2"]
    result = netinv_lightning.invert(
        linear_softmax,
        shape=(1, 8, 8),
        overrides=[
            *overrides,
            "application.eval_samples=16",
            "application.keep_samples=16",
            "classifier.query_directions=3",
        ],
    )
    assert result.classifier.spec.num_classes == 3
    images = {"generator": 2 * 4, "gradient": 2 * (16 + 16)}[method]  # soft and hot vectors
    assert result.metrics[names.QUERIES] == images * (1 + 2 * 3)


def test_python_refuses_layers_of_a_function_and_other_objects() -> None:
    with pytest.raises(InputError, match=r"^loss\.stationarity: needs the layers"):
        netinv_lightning.invert(
            linear_softmax, shape=(1, 8, 8), overrides=["+loss.stationarity={weight: 1}"]
        )
    with pytest.raises(InputError, match=r"a black box has no layers"):
        netinv_lightning.invert(linear_softmax, shape=(1, 8, 8), feature_layers=["first"])
    with pytest.raises(InputError, match=r"^network: is a str; must be a torch\.nn\.Module, or a"):
        netinv_lightning.invert("network", shape=(1, 8, 8))  # type: ignore[arg-type]
