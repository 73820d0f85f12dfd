"""Vendi score and duplicates, against the published formula and explicit pairs.

Shape suffixes: n images, N classes, D features, P pixel values.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from netinv_lightning.metrics.diversity import NEAR_IDENTICAL, Duplicates, Vendi

PROPERTY = settings(deadline=None, derandomize=True, max_examples=25)


def published_vendi(f_nD: Tensor) -> float:
    """Compute `score_K` of the package vendi-score 0.0.3, with the cosine kernel."""
    unit_nD = f_nD.double().numpy() / np.linalg.norm(f_nD.double().numpy(), axis=1, keepdims=True)
    shares = scipy.linalg.eigvalsh(unit_nD @ unit_nD.T / len(f_nD))
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def vendi(f_nD: Tensor, label_n: Tensor, classes: int) -> tuple[float, float]:
    metric = Vendi(classes, f_nD.shape[1])
    for part in torch.arange(len(f_nD)).split(7):
        metric.update(f_nD[part], label_n[part])
    values = metric.compute()
    return values["pooled"].item(), values["class_mean"].item()


@PROPERTY
@given(
    n=st.integers(2, 40),
    dim=st.integers(2, 30),
    classes=st.integers(1, 4),
    seed=st.integers(0, 10**6),
)
def test_vendi_equals_the_published_formula(n: int, dim: int, classes: int, seed: int) -> None:
    """Test with more features than images, and with fewer."""
    source = torch.Generator().manual_seed(seed)
    f_nD, label_n = (
        torch.randn(n, dim, generator=source) + 0.5,
        torch.randint(classes, (n,), generator=source),
    )
    pooled, class_mean = vendi(f_nD, label_n, classes + 1)  # the last class is empty
    assert pooled == pytest.approx(published_vendi(f_nD), rel=1e-6)
    assert class_mean == pytest.approx(
        np.mean([published_vendi(f_nD[label_n == label]) for label in label_n.unique()]), rel=1e-6
    )


@pytest.mark.parametrize("k", [1, 2, 5])
def test_vendi_of_k_orthogonal_groups_is_k(k: int) -> None:
    f_nD = 3 * torch.eye(6)[torch.arange(20 * k) % k]
    assert vendi(f_nD, torch.zeros(20 * k, dtype=torch.long), 1) == pytest.approx((k, k))


def test_vendi_of_unequal_groups_is_exp_of_their_entropy() -> None:
    f_nD = torch.eye(3)[torch.tensor([0, 0, 0, 1])]
    pooled, class_mean = vendi(f_nD, torch.tensor([0, 0, 0, 2]), 3)
    assert pooled == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))
    assert class_mean == pytest.approx(1)


def test_zero_features_equal_each_other_and_no_other() -> None:
    f_nD = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert vendi(f_nD, torch.zeros(4, dtype=torch.long), 1)[0] == pytest.approx(2)


# Duplicates


def naive_duplicates(x_nCHW: Tensor, label_n: Tensor, threshold: float) -> float:
    levels_nP = (x_nCHW.flatten(1) * 255).round()
    found = 0
    for i in range(len(label_n)):
        found += any(
            (levels_nP[i] - levels_nP[j]).square().mean().sqrt() <= threshold * 255
            for j in range(len(label_n))
            if j != i and label_n[i] == label_n[j]
        )
    return found / len(label_n)


def duplicates(x_nCHW: Tensor, label_n: Tensor, **arguments: float) -> float:
    metric = Duplicates(**arguments)  # type: ignore[arg-type]
    for part in torch.arange(len(label_n)).split(4):
        metric.update(x_nCHW[part], label_n[part])
    return metric.compute().item()


def test_duplicates_by_hand() -> None:
    """Images of grey levels 100, 108 (just close enough), 117, 100 of another class, 200, 200."""
    x_nCHW = (torch.tensor([100.0, 108, 117, 100, 200, 200]) / 255)[:, None, None, None].expand(
        -1, 3, 8, 8
    )
    assert duplicates(x_nCHW, torch.tensor([0, 0, 0, 1, 2, 2])) == pytest.approx(4 / 6)
    assert pytest.approx(8 / 255) == NEAR_IDENTICAL
    assert duplicates(x_nCHW, torch.tensor([0, 0, 0, 0, 1, 2])) == pytest.approx(3 / 6)


def test_one_changed_pixel_counts_by_its_share_of_the_image() -> None:
    x_nCHW = torch.full((2, 1, 28, 28), 0.5)
    x_nCHW[1, 0, 0, 0] = 1.0  # 0.5 / 28 root mean square
    assert duplicates(x_nCHW, torch.zeros(2, dtype=torch.long)) == 1
    x_nCHW[1, 0, :2, :2] = 1.0  # 2 x 0.5 / 28
    assert duplicates(x_nCHW, torch.zeros(2, dtype=torch.long)) == 0


@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_duplicates_equal_all_pairs_for_any_chunk_size(chunk: int) -> None:
    source = torch.Generator().manual_seed(0)
    originals = torch.rand(12, 1, 6, 6, generator=source)
    x_nCHW = (
        originals[torch.randint(12, (30,), generator=source)]
        + 0.03 * torch.randn(30, 1, 6, 6, generator=source)
    ).clamp(0, 1)
    label_n = torch.randint(2, (30,), generator=source)
    for threshold in (0.038, 0.042, 0.05):
        share = naive_duplicates(x_nCHW, label_n, threshold)
        assert 0 < share < 1
        assert duplicates(x_nCHW, label_n, threshold=threshold, chunk=chunk) == pytest.approx(share)
