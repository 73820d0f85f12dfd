"""Similarity of reconstructions to real images: matching, and members against non-members."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from netinv_lightning.metrics.membership import (
    auc_of,
    difference,
    matched,
    nearest,
    structural_similarity,
)

ONE = torch.zeros(1, dtype=torch.int64)


def pictures(n: int, seed: int = 0, side: int = 28) -> Tensor:
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(seed))


def test_the_nearest_reconstruction_has_the_same_class() -> None:
    real, label_m = pictures(4), torch.tensor([0, 0, 1, 2])
    # The first is a copy of image 2, but generated as class 0.
    x_nCHW = torch.cat([real[2:3], 1 - real[0:1], 0.5 * real[1:2] + 0.2, real[0:1]])
    found = nearest(real, label_m, x_nCHW, torch.tensor([0, 0, 0, 0]))
    assert found.index_m.tolist() == [3, 2, -1, -1]
    assert found.ncc_m[:2].tolist() == pytest.approx(
        [1, 1], abs=1e-5
    )  # correlation ignores brightness and contrast
    assert found.ssim_m[0] == pytest.approx(1, abs=1e-5)
    assert found.ssim_m[1] < 0.99  # structural similarity does not ignore them
    assert found.ncc_m[2:].isnan().all()
    assert found.ssim_m[2:].isnan().all()


def test_correlation_of_two_by_two_pixels_by_hand() -> None:
    real = (
        torch.tensor([[0.0, 1.0], [0.0, 1.0]])
        .expand(1, 1, 2, 2)
        .repeat_interleave(8, 2)
        .repeat_interleave(8, 3)
    )
    other = (
        torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        .expand(1, 1, 2, 2)
        .repeat_interleave(8, 2)
        .repeat_interleave(8, 3)
    )
    # Both are orthogonal after centring, so the mixture has correlation 2 / sqrt(5) with `real`.
    mixed = (2 * real + other) / 3
    assert float(nearest(real, ONE, mixed, ONE).ncc_m) == pytest.approx(2 / math.sqrt(5), abs=1e-5)
    assert float(nearest(real, ONE, other, ONE).ncc_m) == pytest.approx(0, abs=1e-6)


def test_matching_is_one_to_one_with_the_largest_sum() -> None:
    """Both real images are nearest to reconstruction 0; greedy matching is not optimal."""
    base, other = pictures(1, 1), pictures(1, 2)
    real = torch.cat([base, 0.9 * base + 0.1 * other])
    x_nCHW = torch.cat([base, 0.2 * base + 0.8 * other])
    zeros = torch.zeros(2, dtype=torch.int64)
    assert nearest(real, zeros, x_nCHW, zeros).index_m.tolist() == [0, 0]
    pairs = matched(real, zeros, x_nCHW, zeros)
    assert sorted(pairs.reconstruction_c.tolist()) == [0, 1]
    assert sorted(pairs.real_c.tolist()) == [0, 1]
    of_real = dict(zip(pairs.real_c.tolist(), pairs.reconstruction_c.tolist(), strict=True))
    sums = {
        first: sum(
            float(nearest(real[[r]], ONE, x_nCHW[[n]], ONE).ncc_m)
            for r, n in ((0, first), (1, 1 - first))
        )
        for first in (0, 1)
    }
    assert of_real[0] == max(sums, key=lambda first: sums[first])


def test_surplus_images_remain_unmatched() -> None:
    pairs = matched(
        pictures(3), torch.tensor([0, 0, 1]), pictures(5, 1), torch.tensor([0, 1, 1, 1, 2])
    )
    assert len(pairs.real_c) == 2
    assert pairs.real_c.tolist()[-1] == 2
    assert pairs.good == 0  # noise images are not similar to each other


def test_structural_similarity_of_an_image_with_itself_is_1() -> None:
    x_cCHW = pictures(3)
    assert structural_similarity(x_cCHW, x_cCHW).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert len(structural_similarity(x_cCHW[:0], x_cCHW[:0])) == 0


@pytest.mark.parametrize(
    ("above", "below", "auc"),
    [
        ([3, 4], [1, 2], 1.0),
        ([1, 2], [3, 4], 0.0),
        ([1, 3], [2, 4], 0.25),
        ([1, 1], [1, 1], 0.5),
        ([2, 1], [1], 0.75),
    ],
)
def test_auc_by_hand(above: list[int], below: list[int], auc: float) -> None:
    assert auc_of(torch.tensor(above), torch.tensor(below)) == auc


def test_only_a_real_gap_is_significant() -> None:
    source = torch.Generator().manual_seed(0)
    label_m = torch.arange(200) % 4
    members, held_out = torch.randn(200, generator=source), torch.randn(200, generator=source)
    found = difference(members + 1, label_m, held_out, label_m)
    assert found.gap == pytest.approx(
        float((members + 1).double().mean() - held_out.double().mean())
    )
    assert found.gap_interval[0] < found.gap < found.gap_interval[1]
    assert found.gap_interval[0] > 0.5
    assert found.p_value == 0.001  # the smallest value for 999 permutations
    assert found.auc > 0.7
    none = difference(members, label_m, held_out, label_m)
    assert none.p_value > 0.05
    assert none.auc_interval[0] < 0.5 < none.auc_interval[1]
    assert difference(members, label_m, held_out, label_m, seed=0) == none


def test_p_values_are_uniform_without_a_gap() -> None:
    """Of 60 uniform p-values, about half are below 0.5 and few below 0.1."""
    p_values = []
    for draw in range(60):
        source = torch.Generator().manual_seed(draw)
        label_m = torch.arange(30) % 3
        p_values.append(
            difference(
                torch.randn(30, generator=source),
                label_m,
                torch.randn(30, generator=source),
                label_m,
            ).p_value
        )
    assert 0.3 < sum(p < 0.5 for p in p_values) / 60 < 0.7
    # Binomial(60, 0.1) exceeds 13 with a probability of 0.001.
    assert sum(p < 0.1 for p in p_values) <= 13


def test_a_gap_between_classes_is_not_memorisation() -> None:
    """Members have more images of the class with high values, but no difference within a class.

    Every permutation within classes therefore has the same gap.
    """
    member_label, held_out_label = (
        torch.tensor([0] * 80 + [1] * 20),
        torch.tensor([0] * 20 + [1] * 80),
    )
    members, held_out = 1.0 - member_label, 1.0 - held_out_label
    assert difference(members, member_label, held_out, held_out_label).p_value == 1.0
