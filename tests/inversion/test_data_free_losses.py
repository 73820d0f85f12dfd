"""The losses of data-free distillation (DAFL, CMI): closed forms, and their presets."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from omegaconf import DictConfig
from torch import nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.inversion import data_free_losses as losses
from netinv_lightning.inversion.augmentation import random_crops
from netinv_lightning.inversion.build import make_module
from tests.inversion.fixed_stream import Fixed

Compose = Callable[..., DictConfig]
EMPTY = torch.empty(0, 4)


def test_balance_is_lowest_for_equal_shares_of_the_classes() -> None:
    certain_NN = 100 * torch.eye(5)
    assert float(losses.balance(certain_NN)) == pytest.approx(-math.log(5), rel=1e-6)
    assert float(losses.balance(certain_NN[:1].expand(7, -1))) == pytest.approx(0.0, abs=1e-6)
    halves_BN = certain_NN[[0, 0, 1, 1]]
    assert float(losses.balance(halves_BN)) == pytest.approx(-math.log(2), rel=1e-6)


def test_own_prediction_and_activation_have_closed_forms() -> None:
    logits_BN = torch.tensor([[0.0, math.log(3.0)], [math.log(7.0), 0.0]])
    expected = -(math.log(3 / 4) + math.log(7 / 8)) / 2
    assert float(losses.own_prediction(logits_BN)) == pytest.approx(expected, rel=1e-5)
    assert float(losses.activation(torch.tensor([[1.0, -3.0], [0.0, 2.0]]))) == -1.5


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_contrast_of_orthogonal_and_of_equal_images(temperature: float) -> None:
    """s_ij is 1 for the own image and 0 for others; or 1 for all images."""
    own_BD = 3 * torch.eye(4)
    apart = losses.instance_contrast(own_BD, own_BD, EMPTY, temperature)
    others = math.exp(-1 / temperature)
    assert float(apart) == pytest.approx(math.log1p(3 * others), rel=1e-5)
    remembered = losses.instance_contrast(own_BD, own_BD, 5 * own_BD, temperature)
    assert float(remembered) == pytest.approx(math.log(2 + 6 * others), rel=1e-5)
    alike_BD = torch.ones(4, 4)
    same = losses.instance_contrast(alike_BD, alike_BD, alike_BD[:3], temperature)
    assert float(same) == pytest.approx(math.log(4 + 3), rel=1e-5)


def test_the_gradient_of_the_contrast_flows_through_the_crops_only() -> None:
    crops_BD, whole_BD = torch.rand(2, 3, 4, requires_grad=True).unbind()
    loss = losses.instance_contrast(crops_BD, whole_BD, EMPTY)
    of_crops, of_whole = torch.autograd.grad(loss, [crops_BD, whole_BD], allow_unused=True)
    assert of_crops.abs().max() > 0
    assert of_whole is None


def test_crops_are_parts_of_the_image() -> None:
    """The largest crop is the image. The smallest one at the first corner is its quarter there."""
    x_BCHW = torch.rand(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(random_crops(x_BCHW, 0.25, Fixed(1.0)), x_BCHW)
    corner_BCHW = random_crops(x_BCHW, 0.25, Fixed(0.0)).flip(-1)
    # Between the pixel centres of the quarter, the crop has the values of bilinear interpolation.
    enlarged_BCHW = torch.nn.functional.interpolate(x_BCHW, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(corner_BCHW, enlarged_BCHW[:, :, :8, :6])
    signal_BCL = x_BCHW[:, :, 0]
    torch.testing.assert_close(random_crops(signal_BCL, 0.25, Fixed(1.0)), signal_BCL)


@pytest.mark.parametrize(
    ("preset", "terms"),
    [("dafl", ["ce", "activation", "balance"]), ("cmi", ["ce", "batch_norm", "contrast"])],
)
def test_presets_have_the_terms_of_their_papers(
    compose: Compose, preset: str, terms: list[str]
) -> None:
    assert make_module(compose(f"loss={preset}", "classifier.zoo=mnist_mlp")).objective.names == (
        terms
    )


def test_contrast_is_refused_for_tables(compose: Compose) -> None:
    spec = DataSpec("own", 10, 5, (), (0.5,) * 5, (0.2,) * 5, tuple("abcdefghij"))
    with pytest.raises(InputError, match=r"^loss.contrast: needs images or signals as input"):
        make_module(compose("loss=cmi"), FrozenClassifier(nn.Linear(5, 10), spec))
