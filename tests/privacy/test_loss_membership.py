"""Membership by the loss, and the capacity of the weights, with values computed by hand."""

from __future__ import annotations

import pytest
import torch

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.features import extract_logits
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.metrics.operating_points import exact_interval
from netinv_lightning.privacy.capacity import capacity_of
from netinv_lightning.privacy.loss_membership import compare_scores, scores_of
from netinv_lightning.privacy.real_images import real_images


def test_rates_of_hand_made_scores() -> None:
    """Of 10 members, 4 score above all 1,000 held-out images, and 2 below half of them."""
    held_out = torch.arange(1000.0)
    member = torch.tensor([2000.0] * 4 + [998.5] * 4 + [500.0, 500.0])
    found = compare_scores(member, held_out)
    at_0001, at_001 = found.identified
    assert (at_0001.true_positive_rate, at_0001.false_positives) == (0.8, 1)
    assert (at_001.true_positive_rate, at_001.interval) == (0.8, exact_interval(8, 10))
    # No member may be below the threshold: the 500 held-out images below 500 are negatives.
    assert [point.true_positive_rate for point in found.missing_tail] == [0.5, 0.5]
    assert found.auc == pytest.approx((4 * 1000 + 4 * 999 + 2 * 500.5) / 10_000)
    rate_m = found.false_positive_rate_m()
    assert rate_m.tolist() == pytest.approx([0.0] * 4 + [0.001] * 4 + [0.5] * 2)
    metrics = found.metrics()
    assert metrics["membership/tpr_at_0.01"] == 0.8
    assert metrics["membership/tnr_at_0.001_low"] == exact_interval(500, 1000)[0]


def test_log_odds_order_images_as_the_loss() -> None:
    data, classifier = ImageDataModule("mnist5k", subset_size=100), load_zoo("mnist_mlp")
    real = real_images(data, largest=300)
    assert [len(images.labels_n) for images in (real.members, real.held_out)] == [100, 100]
    assert len(real.many_held_out.labels_n) == 300
    assert torch.equal(data.train[0][0], data_set_image(real.member_index_m, data))
    score_m = scores_of(classifier, real.members)
    logits_mN = extract_logits(classifier, real.members.images_nCHW).double()
    loss_m = torch.nn.functional.cross_entropy(logits_mN, real.members.labels_n, reduction="none")
    torch.testing.assert_close(torch.nn.functional.softplus(-score_m), loss_m)


def data_set_image(index_m: torch.Tensor, data: ImageDataModule) -> torch.Tensor:
    """Return the first training image, found by its position in the whole data set."""
    whole = ImageDataModule("mnist5k", val_fraction=0.0)
    (found,) = index_m[index_m == data.train_indices[0]].tolist()
    return whole.train[0][found]


def test_capacity_of_a_known_network() -> None:
    """A linear layer from 784 values to 10 classes has 7,850 parameters."""
    classifier = load_zoo("mnist_mlp")
    classifier.network = torch.nn.Linear(784, 10)
    small, large = capacity_of(classifier, 10), capacity_of(classifier, 100)
    assert small.ratio == 7850 / 7840
    assert small.line().startswith("p / (d n) = 1: 7,850 parameters for 10 training images of 784")
    assert "above 1" in small.line()
    assert large.ratio == 7850 / 78400
    assert "below 1" in large.line()
