"""`method=gradient_leakage`: images from the gradient of a training batch.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.methods.gradient_leakage import GradientLeakage
from netinv_lightning.inversion.methods.leakage_self_test import matched_psnr
from netinv_lightning.inversion.methods.leaked_gradients import (
    batch_gradients,
    closed_form,
    infer_labels,
    save_gradients,
)
from netinv_lightning.training.seeds import own_randomness
from tests.inversion.methods.small_attacks import SPEC, frozen


def linear() -> FrozenClassifier:
    torch.manual_seed(0)
    return frozen(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)))


def smooth_mlp() -> FrozenClassifier:
    """Return an MLP with a smooth activation, as the theory of gradient leakage assumes."""
    torch.manual_seed(0)
    return frozen(
        nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.Sigmoid(), nn.Linear(32, 3, bias=True))
    )


def private(images: int, classifier: FrozenClassifier | None = None) -> Tensor:
    shape = (classifier.spec if classifier else SPEC).shape
    return torch.rand(images, *shape, generator=torch.Generator().manual_seed(7))


def no_data() -> tuple[Tensor, Tensor]:
    raise AssertionError("a leaked gradient needs no data")


def attack(
    classifier: FrozenClassifier, x_BCHW: Tensor, labels: list[int], folder: Path, **options: Any
) -> GradientLeakage:
    path = folder / "gradients.safetensors"
    save_gradients(classifier, x_BCHW, torch.tensor(labels), path)
    spec = classifier.spec
    return GradientLeakage(
        Conditioning(spec.num_classes, spec.image_size, "label"), classifier, 0, 50, no_data,
        gradients=str(path), images=len(labels), **options,
    )  # fmt: skip


def test_the_gradients_are_those_of_plain_autograd() -> None:
    classifier, x_BCHW, label_B = linear(), private(2), torch.tensor([0, 2])
    weight = classifier.network[1].weight.requires_grad_()
    torch.nn.functional.cross_entropy(classifier(x_BCHW), label_B).backward()
    computed = batch_gradients(classifier, x_BCHW, label_B)
    assert weight.grad is not None
    torch.testing.assert_close(computed["1.weight"], weight.grad)


def test_one_image_of_a_linear_layer_is_recovered_in_closed_form(tmp_path: Path) -> None:
    classifier, x_BCHW = linear(), private(1)
    leakage = attack(classifier, x_BCHW, [2], tmp_path)
    assert leakage.label_B.tolist() == [2]
    torch.testing.assert_close(leakage.reconstruct(), x_BCHW, rtol=0, atol=1e-5)


def test_batch_norm_in_evaluation_mode_does_not_hide_the_image() -> None:
    classifier = load_zoo("mnist_mlp")
    x_BCHW = private(1, classifier)
    found = closed_form(classifier, batch_gradients(classifier, x_BCHW, torch.tensor([4])))
    assert found is not None
    torch.testing.assert_close(found, x_BCHW, rtol=0, atol=1e-3)
    cnn = load_zoo("mnist_cnn")
    assert closed_form(cnn, batch_gradients(cnn, x_BCHW, torch.tensor([4]))) is None


def test_a_batch_of_two_is_recovered(tmp_path: Path) -> None:
    classifier, x_BCHW = smooth_mlp(), private(2)
    leakage = attack(classifier, x_BCHW, [0, 2], tmp_path, steps=300, tv=0.0)
    assert leakage.label_B.tolist() == [0, 2]
    found_BCHW = leakage.reconstruct()
    wrong_order = float((found_BCHW.flip(0) - x_BCHW).abs().mean())
    assert float((found_BCHW - x_BCHW).abs().mean()) < 0.03 < 0.1 < wrong_order
    # One forward pass per image and step; the backward pass to the pixels is of second order.
    assert leakage.forwards == 2 * 300
    with own_randomness(0, torch.device("cpu")):
        condition = leakage.conditioning.of_labels(torch.tensor([2, 0, 2]))
        assert torch.equal(leakage.draw(condition), found_BCHW[[1, 0, 1]])
    again = attack(classifier, x_BCHW, [0, 2], tmp_path, steps=300, tv=0.0)
    assert torch.equal(again.reconstruct(), found_BCHW)


@pytest.mark.parametrize("labels", [[1], [0, 2], [1, 1, 1]])
def test_labels_are_inferred_from_the_last_bias(labels: list[int]) -> None:
    classifier = smooth_mlp()
    gradients = batch_gradients(classifier, private(len(labels)), torch.tensor(labels))
    assert infer_labels(classifier, gradients, len(labels)).tolist() == labels


def test_labels_of_a_batch_are_inferred_from_counts() -> None:
    """Test an untrained network on a batch in which most classes appear several times."""
    torch.manual_seed(0)
    spec = DataSpec("made_up", 10, 1, 4, (0.2,), (0.5,), tuple("abcdefghij"))
    classifier = frozen(nn.Sequential(nn.Flatten(), nn.Linear(16, 10)), spec)
    labels = [0, 0, 1, 1, 1, 2, 4, 4, 5, 6, 6, 7, 7, 8, 9, 9]
    x_BCHW = private(len(labels), classifier) / 4
    gradients = batch_gradients(classifier, x_BCHW, torch.tensor(labels))
    assert infer_labels(classifier, gradients, len(labels)).tolist() == labels


def test_a_self_test_compares_with_the_true_batch() -> None:
    images = (255 * private(12)).to(torch.uint8)
    spec, labels = linear().spec, torch.arange(12) % 3
    conditioning = Conditioning(spec.num_classes, spec.image_size, "label")
    leakage = GradientLeakage(
        conditioning, linear(), 0, 50, lambda: (images, labels), self_test=True
    )
    metrics = leakage.metrics()
    assert metrics["leakage/labels"] == 1.0
    assert metrics["leakage/psnr"] > 60 > 20 > metrics["leakage/psnr_control"]
    with pytest.raises(InputError, match=r"^method.images=9: method.self_test needs other images"):
        GradientLeakage(
            conditioning, linear(), 0, 50, lambda: (images, labels), self_test=True, images=9
        )
    with pytest.raises(InputError, match=r"^method.gradients=g.safetensors: is not used with"):
        GradientLeakage(
            conditioning, linear(), 0, 50, no_data, gradients="g.safetensors", self_test=True
        )


def test_images_are_matched_before_they_are_compared() -> None:
    x_BCHW = private(3)
    assert matched_psnr(x_BCHW.flip(0), x_BCHW) == pytest.approx(100.0)
    assert matched_psnr(x_BCHW + 0.1, x_BCHW.flip(0)) == pytest.approx(20.0, abs=1e-3)


def test_a_class_that_is_not_in_the_batch_causes_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        attack(smooth_mlp(), private(2), [0, 2], tmp_path)
    assert "has no image of the classes [1]" in caplog.text
    assert "application.classes=[0,2]" in caplog.text


def test_missing_and_foreign_gradients_are_refused(tmp_path: Path) -> None:
    conditioning = Conditioning(3, 4, "label")
    with pytest.raises(InputError, match=r"^method.gradients: is missing; method=gradient_leak"):
        GradientLeakage(conditioning, linear(), 0, 10, no_data)
    path = tmp_path / "gradients.safetensors"
    with pytest.raises(InputError, match=r"^method.gradients=.*: the file does not exist"):
        GradientLeakage(conditioning, linear(), 0, 10, no_data, gradients=str(path))
    save_gradients(linear(), private(1), torch.tensor([0]), path)
    with pytest.raises(InputError, match=r"the gradient of 1.weight has the shape \[3, 16\]"):
        GradientLeakage(conditioning, smooth_mlp(), 0, 10, no_data, gradients=str(path))
