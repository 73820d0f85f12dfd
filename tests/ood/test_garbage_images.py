"""Images of the garbage class: noise, crops, outliers, inverted ones, and invalid options."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.outliers import outliers
from netinv_lightning.errors import InputError
from netinv_lightning.ood.garbage.extended_network import copy_trained_weights
from netinv_lightning.ood.garbage.garbage_sources import NoiseSource, RealOutlierSource, random_zoom
from tests.ood.garbage_runs import config, training_of


def test_inverted_images_are_classified_as_their_class() -> None:
    training = training_of(config("garbage.inverted.steps=80", "garbage.inverted.per_class=10"))
    copy_trained_weights(training.network, training.classifier.network)
    with torch.no_grad():
        training.network.head.bias[-1] = -10.0  # garbage is never predicted
    before = {name: value.clone() for name, value in training.network.state_dict().items()}
    images_nCHW = training.source(training.network, 0)
    assert images_nCHW.shape == (100, 1, 28, 28)
    assert images_nCHW.min() >= 0
    assert images_nCHW.max() <= 1
    predicted_n = training.frozen.eval()(images_nCHW).argmax(dim=1)
    assert float((predicted_n == torch.arange(10).repeat(10)).float().mean()) > 0.7
    assert all(
        torch.equal(before[name], value) for name, value in training.network.state_dict().items()
    )
    assert all(
        weight.requires_grad for weight in training.network.parameters()
    )  # the network is still trainable


def test_garbage_class_can_be_inverted_too() -> None:
    training = training_of(config("garbage.inverted.invert_garbage=true"))
    assert training.per_epoch == 220
    assert len(training.source(training.network, 0)) == 220


def test_noise_differs_between_epochs_and_from_test_noise() -> None:
    spec, network = load_classifier(config()).spec, nn.Identity()
    noise = NoiseSource(spec, 50, 0)
    first, second = noise(network, 0), noise(network, 1)
    test_noise = outliers("gaussian_noise", spec, 50, 0, Path())
    assert not torch.equal(first, second)
    assert not any(
        torch.equal(one, other) for one in torch.cat([first, second]) for other in test_noise
    )
    assert torch.equal(first, NoiseSource(spec, 50, 0)(network, 0))


def test_zoomed_crops_are_enlarged_and_inside_the_image() -> None:
    """A crop of a ramp is a ramp whose slope is divided by the magnification, 1 to 4."""
    ramp_nCHW = torch.linspace(0, 1, 28).expand(200, 1, 28, 28)
    crop_nW = random_zoom(ramp_nCHW, 4, 0)[:, 0, 14]
    magnification_n = (27 / 28) / (crop_nW[:, 14] - crop_nW[:, 13]) / 27 * 28 / 27
    assert 1 <= float(magnification_n.min()) < 1.1
    assert 3.9 < float(magnification_n.max()) <= 4.001
    assert float((crop_nW[:, 1:] - crop_nW[:, :-1]).min()) > -1e-6
    assert len(set(crop_nW[:, 14].tolist())) > 190  # the crops are at many positions
    assert torch.equal(random_zoom(ramp_nCHW, 4, 0), random_zoom(ramp_nCHW, 4, 0))


def test_real_outliers_differ_between_epochs() -> None:
    cfg = config()
    source = RealOutlierSource(
        ["uniform_noise"], load_classifier(cfg).spec, 30, 0, ImageDataModule(**cfg.data), Path()
    )
    first, second = source(nn.Identity(), 0), source(nn.Identity(), 1)
    assert len(first) == len(second) == 30
    assert not any(torch.equal(one, other) for one in first for other in second)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["garbage.inverted.source=noize"],
            r"garbage.inverted.source=noize: did you mean 'noise'\?",
        ),
        (
            ["garbage.inverted.start=zero"],
            r"garbage.inverted.start=zero: choose from: scratch, trained",
        ),
        (["garbage.inverted.epochs=0"], r"garbage.inverted.epochs=0: must be 1 or more"),
        (["garbage.inverted.distil=2"], r"garbage.inverted.distil=2.0: must be from 0 to 1"),
        (["garbage.inverted.zoom=0.5"], r"garbage.inverted.zoom=0.5: must be from 1 to 100"),
        (["garbage.inverted.lr=0"], r"garbage.inverted.lr=0.0: must be above 0"),
        (["garbage.inverted.images=1"], r"garbage.inverted.images=1: must be 2 or more"),
        (
            ['garbage.inverted.inversion=["loss=nothing"]'],
            r"garbage.inverted.inversion=\['loss=nothing'\]: loss=nothing: there is no such choice",
        ),
        (
            ['garbage.inverted.inversion=["application=measure"]'],
            r"garbage.inverted.inversion=\['application=measure'\]: application=measure: is not",
        ),
        (
            ['garbage.inverted.inversion=["method=gradient"]'],
            r"garbage.inverted.inversion=\['method=gradient'\]: method=gradient: trains no",
        ),
        (
            ["garbage.inverted.exposed=[fashion_mnist]"],
            r"garbage.inverted.exposed=\['fashion_mnist'\]: must name the data sets to train on",
        ),
        (
            ["garbage.inverted.source=outliers"],
            r"garbage.inverted.exposed=\[\]: must name the data sets to train on",
        ),
        (
            ["garbage.inverted.source=outliers", "garbage.inverted.exposed=[uniform_noise]"],
            r"garbage.inverted.exposed=uniform_noise: is the same data as uniform_noise in",
        ),
        (
            ["garbage.inverted.source=outliers", "garbage.inverted.exposed=[mnist]"],
            r"garbage.inverted.exposed=mnist: is the classifier's own",
        ),
    ],
)
def test_invalid_garbage_options_are_an_input_error(overrides: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line) as refused:
        training_of(config(*overrides))
    assert "\n" not in str(refused.value)
