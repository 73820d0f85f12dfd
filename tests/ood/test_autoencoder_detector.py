"""Reconstruction error of an autoencoder: by hand, on planted patterns and on digits.

Shape suffixes: n images, C channels, H height, W width, P pixels.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datasets import LOADERS
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.interpretability.autoencoders import KSparse
from netinv_lightning.ood.detectors import FeatureSet, FitData, tuning_noise
from netinv_lightning.ood.detectors.autoencoder import LARGEST_SIDE, AutoencoderError

TINY = DataSpec("tiny", 3, 1, 2, (0.0,), (1.0,), ("a", "b", "c"))


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def features_of(images_nCHW: Tensor) -> FeatureSet:
    return FeatureSet(images_nCHW, torch.empty(0), torch.empty(0))


def fit_data_of(images_nCHW: Tensor, seed: int = 0) -> FitData:
    """Return fit data with images only, without logits or features."""
    nothing = features_of(images_nCHW[:0])
    classifier = FrozenClassifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), TINY)
    return FitData(
        classifier,
        features_of(images_nCHW),
        torch.arange(len(images_nCHW)) % 3,
        nothing,
        nothing,
        seed,
    )


def auroc(inside_n: Tensor, outside_n: Tensor) -> float:
    return float(
        roc_auc_score([0] * len(inside_n) + [1] * len(outside_n), torch.cat([inside_n, outside_n]))
    )


def stripes(count: int, channels: int, side: int, seed: int) -> Tensor:
    """Return images of horizontal stripes, each 8 rows of one grey value."""
    return (
        torch.rand(count, channels, side // 8, 1, generator=source(seed))
        .repeat_interleave(8, dim=2)
        .expand(-1, -1, -1, side)
    )


def test_score_is_the_mean_squared_error() -> None:
    """An autoencoder whose units are all 0 returns the mean image."""
    model = KSparse(4, 8, 2, seed=0)
    nn.init.zeros_(model.encoder)
    model.mean.copy_(torch.tensor([0.5, 0.5, 0.0, 1.0]))
    images_nCHW = torch.tensor(
        [[[[0.5, 0.5], [0.0, 1.0]]], [[[0.0, 1.0], [0.0, 1.0]]], [[[0.5, 0.5], [1.0, 0.0]]]]
    )
    score_n = AutoencoderError(model)(features_of(images_nCHW))
    assert score_n.dtype == torch.double
    assert score_n.tolist() == pytest.approx([0, 0.125, 0.5])


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32), (3, 64)])
def test_stripes_of_the_other_direction_are_detected(channels: int, side: int) -> None:
    side8 = side // 8 * 8
    pad = (0, side - side8, 0, side - side8)
    training_nCHW, inside_nCHW = (
        nn.functional.pad(stripes(count, channels, side8, seed), pad)
        for count, seed in ((200, 0), (60, 1))
    )
    autoencoder = AutoencoderError.fit(fit_data_of(training_nCHW))
    inside_n, outside_n = (
        autoencoder(features_of(images)) for images in (inside_nCHW, inside_nCHW.transpose(2, 3))
    )
    assert inside_n.shape == (60,)
    assert auroc(inside_n, outside_n) > 0.99


def test_only_images_larger_than_32_pixels_are_downsampled() -> None:
    small_nCHW = torch.rand(10, 1, LARGEST_SIDE, LARGEST_SIDE, generator=source())
    autoencoder = AutoencoderError(
        KSparse(LARGEST_SIDE * LARGEST_SIDE, 8, 2, seed=0).requires_grad_(False)
    )
    large_nCHW = small_nCHW.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(
        autoencoder(features_of(large_nCHW)), autoencoder(features_of(small_nCHW))
    )


def test_equal_seeds_give_equal_scores_and_keep_global_randomness() -> None:
    fit_data, probes = (
        fit_data_of(stripes(60, 1, 24, 0), seed=3),
        features_of(stripes(20, 1, 24, 1)),
    )
    state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # type: ignore[union-attr, index]
    score_n = AutoencoderError.fit(fit_data)(probes)
    assert torch.equal(
        AutoencoderError.fit(replace(fit_data, labels_n=fit_data.labels_n * 0))(probes), score_n
    )  # labels are not used
    assert not torch.equal(AutoencoderError.fit(replace(fit_data, seed=4))(probes), score_n)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()  # type: ignore[index]


# Real digits


@cache
def digits(train: bool, count: int) -> Tensor:
    """Return the first images of each class, equally many, [count, 1, 28, 28] in [0, 1]."""
    images_nCHW, labels_n = LOADERS["mnist5k"](None, train)  # type: ignore[arg-type]
    chosen_n = torch.cat([(labels_n == label).nonzero()[: count // 10, 0] for label in range(10)])
    return images_nCHW[chosen_n].float() / 255


@pytest.fixture(scope="module")
def digit_autoencoder() -> AutoencoderError:
    return AutoencoderError.fit(fit_data_of(digits(True, 1000)))


def test_unseen_digits_are_reconstructed_better_than_outliers(
    digit_autoencoder: AutoencoderError,
) -> None:
    test_nCHW = digits(False, 200)
    inside_n = digit_autoencoder(features_of(test_nCHW))
    outliers = {
        "noise": tuning_noise(test_nCHW, 200, seed=9),
        "negatives": 1 - test_nCHW,
        "upper half at the bottom": test_nCHW.roll(14, dims=2),
    }
    reached = {
        kind: auroc(inside_n, digit_autoencoder(features_of(images_nCHW)))
        for kind, images_nCHW in outliers.items()
    }
    assert reached["noise"] == reached["negatives"] == 1
    assert reached["upper half at the bottom"] > 0.9, reached
    unexplained = float(
        inside_n.mean() / (test_nCHW - digits(True, 1000).mean(dim=0)).square().mean()
    )
    assert unexplained < 0.4


def test_images_simpler_than_digits_are_not_detected(digit_autoencoder: AutoencoderError) -> None:
    """This is a known limitation: an empty image is reconstructed better than any digit."""
    test_nCHW = digits(False, 200)
    assert (
        auroc(
            digit_autoencoder(features_of(test_nCHW)),
            digit_autoencoder(features_of(torch.zeros(20, 1, 28, 28))),
        )
        < 0.1
    )
