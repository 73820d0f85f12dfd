"""Reconstruction error of an autoencoder of the training images: by hand, on planted patterns and on digits (A5-6).

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
from netinv_lightning.ood.detectors import Known, Seen, noise
from netinv_lightning.ood.detectors.reconstruction import SIDE, Reconstruction

TINY = DataSpec("tiny", 3, 1, 2, (0.0,), (1.0,), ("a", "b", "c"))


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seen_of(images_nCHW: Tensor) -> Seen:
    return Seen(images_nCHW, torch.empty(0), None, {})


def known_of(images_nCHW: Tensor, seed: int = 0) -> Known:
    """Images alone: no logits, no features."""
    nothing = seen_of(images_nCHW[:0])
    classifier = FrozenClassifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), TINY)
    return Known(
        classifier, seen_of(images_nCHW), torch.arange(len(images_nCHW)) % 3, nothing, nothing, seed
    )


def auroc(inside_n: Tensor, outside_n: Tensor) -> float:
    return float(
        roc_auc_score([0] * len(inside_n) + [1] * len(outside_n), torch.cat([inside_n, outside_n]))
    )


def stripes(count: int, channels: int, side: int, seed: int) -> Tensor:
    """Each row of an image has one grey value of its own, [count, channels, side, side]."""
    return (
        torch.rand(count, channels, side // 8, 1, generator=source(seed))
        .repeat_interleave(8, dim=2)
        .expand(-1, -1, -1, side)
    )


def test_the_score_is_the_mean_squared_error() -> None:
    """An autoencoder whose units are all silent gives the mean image."""
    model = KSparse(4, 8, 2, seed=0)
    nn.init.zeros_(model.encoder)
    model.mean.copy_(torch.tensor([0.5, 0.5, 0.0, 1.0]))
    images_nCHW = torch.tensor(
        [[[[0.5, 0.5], [0.0, 1.0]]], [[[0.0, 1.0], [0.0, 1.0]]], [[[0.5, 0.5], [1.0, 0.0]]]]
    )
    score_n = Reconstruction(model)(seen_of(images_nCHW))
    assert score_n.dtype == torch.double
    assert score_n.tolist() == pytest.approx([0, 0.125, 0.5])


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32), (3, 64)])
def test_stripes_of_the_other_direction_are_found(channels: int, side: int) -> None:
    side8 = side // 8 * 8
    pad = (0, side - side8, 0, side - side8)
    training_nCHW, inside_nCHW = (
        nn.functional.pad(stripes(count, channels, side8, seed), pad)
        for count, seed in ((200, 0), (60, 1))
    )
    reconstruction = Reconstruction.fit(known_of(training_nCHW))
    inside_n, outside_n = (
        reconstruction(seen_of(images)) for images in (inside_nCHW, inside_nCHW.transpose(2, 3))
    )
    assert inside_n.shape == (60,)
    assert auroc(inside_n, outside_n) > 0.99


def test_large_images_are_averaged_and_images_of_32_are_not() -> None:
    small_nCHW = torch.rand(10, 1, SIDE, SIDE, generator=source())
    reconstruction = Reconstruction(KSparse(SIDE * SIDE, 8, 2, seed=0).requires_grad_(False))
    large_nCHW = small_nCHW.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(
        reconstruction(seen_of(large_nCHW)), reconstruction(seen_of(small_nCHW))
    )


def test_one_seed_gives_the_same_bits_and_leaves_the_global_ones() -> None:
    known, probes = known_of(stripes(60, 1, 24, 0), seed=3), seen_of(stripes(20, 1, 24, 1))
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[union-attr, index]
    score_n = Reconstruction.fit(known)(probes)
    assert torch.equal(
        Reconstruction.fit(replace(known, labels_n=known.labels_n * 0))(probes), score_n
    )  # labels are not used
    assert not torch.equal(Reconstruction.fit(replace(known, seed=4))(probes), score_n)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()  # type: ignore[index]


# On real digits


@cache
def digits(train: bool, count: int) -> Tensor:
    """The first images of every class alike, [count, 1, 28, 28] in [0, 1]."""
    images_nCHW, labels_n = LOADERS["mnist5k"](None, train)  # type: ignore[arg-type]
    chosen_n = torch.cat([(labels_n == label).nonzero()[: count // 10, 0] for label in range(10)])
    return images_nCHW[chosen_n].float() / 255


@pytest.fixture(scope="module")
def of_digits() -> Reconstruction:
    return Reconstruction.fit(known_of(digits(True, 1000)))


def test_unseen_digits_are_reconstructed_better_than_anything_else(
    of_digits: Reconstruction,
) -> None:
    test_nCHW = digits(False, 200)
    inside_n = of_digits(seen_of(test_nCHW))
    outliers = {
        "noise": noise(test_nCHW, 200, seed=9),
        "negatives": 1 - test_nCHW,
        "upper half at the bottom": test_nCHW.roll(14, dims=2),
    }
    reached = {
        kind: auroc(inside_n, of_digits(seen_of(images_nCHW)))
        for kind, images_nCHW in outliers.items()
    }
    assert reached["noise"] == reached["negatives"] == 1
    assert reached["upper half at the bottom"] > 0.9, reached
    unexplained = float(
        inside_n.mean() / (test_nCHW - digits(True, 1000).mean(dim=0)).square().mean()
    )
    assert unexplained < 0.4


def test_what_is_simpler_than_digits_is_not_found(of_digits: Reconstruction) -> None:
    """Not a sign, a limit that the docstring tells: an empty image is reconstructed better than any digit."""
    test_nCHW = digits(False, 200)
    assert (
        auroc(of_digits(seen_of(test_nCHW)), of_digits(seen_of(torch.zeros(20, 1, 28, 28)))) < 0.1
    )
