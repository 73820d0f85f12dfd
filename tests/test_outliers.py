"""Sets that a classifier was not made for, in its shape."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from netinv_lightning.data.outliers import check_outliers, in_shape_of, outliers
from netinv_lightning.data.sources import mnist5k
from netinv_lightning.data.spec import CIFAR10, MNIST
from netinv_lightning.errors import InputError


def test_noise_has_its_moments_and_repeats() -> None:
    uniform = outliers("uniform_noise", CIFAR10, 200, 3, Path())
    assert uniform.shape == (200, 3, 32, 32)
    assert uniform.mean() == pytest.approx(0.5, abs=0.005)
    assert uniform.std() == pytest.approx(12**-0.5, abs=0.005)
    gaussian = outliers("gaussian_noise", MNIST, 200, 3, Path())
    assert gaussian.mean() == pytest.approx(0.5, abs=0.005)
    assert ((gaussian == 0) | (gaussian == 1)).float().mean() == pytest.approx(0.0455, abs=0.005)  # beyond two standard deviations
    assert torch.equal(gaussian, outliers("gaussian_noise", MNIST, 200, 3, Path()))
    assert not torch.equal(gaussian, outliers("gaussian_noise", MNIST, 200, 4, Path()))


def test_images_take_the_shape_of_the_classifiers_data() -> None:
    digits = outliers("mnist5k", CIFAR10, 50, 0, Path())
    assert digits.shape == (50, 3, 32, 32)
    assert torch.equal(digits[:, 0], digits[:, 2])
    assert 0 <= digits.min() < digits.max() <= 1
    own = outliers("mnist5k", MNIST, 50, 0, Path())
    assert digits.mean() == pytest.approx(float(own.mean()), abs=2e-3)  # resampling keeps the brightness
    real = mnist5k(Path(), False)[0].float() / 255
    assert all((real == image).flatten(1).all(dim=1).any() for image in own[:5])  # test images, untouched where the shape is the same


def test_luminance_of_pure_colours() -> None:
    pure = torch.eye(3)[:, :, None, None].expand(-1, -1, 28, 28)
    assert in_shape_of(MNIST, pure)[:, 0, 0, 0].tolist() == pytest.approx([0.299, 0.587, 0.114], abs=1e-3)


@pytest.mark.parametrize(("name", "inside"), [("mnist", "mnist"), ("mnist5k", "mnist"), ("svhn", "svhn_head")])
def test_the_classifiers_own_data_are_no_outliers(name: str, inside: str) -> None:
    with pytest.raises(InputError, match=rf"application.outliers={name}: is the classifier's own data \({inside}\)"):
        check_outliers(name, inside)


def test_an_unknown_set_is_told_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"application.outliers=cifar: no such set; .*cifar10"):
        check_outliers("cifar", "mnist")
    check_outliers("cifar10", "mnist")
