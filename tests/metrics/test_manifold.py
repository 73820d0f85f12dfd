"""Precision, recall, density and coverage, against prdc 0.2 and a case on a line.

Shape suffixes: n generated images, m real images, D features.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from netinv_lightning.metrics import manifold
from netinv_lightning.metrics.manifold import Manifold

PROPERTY = settings(deadline=None, derandomize=True, max_examples=25)


def published(real_mD: Tensor, fake_nD: Tensor, k: int) -> dict[str, float]:
    """Compute what `compute_prdc` of prdc 0.2 computes, with explicit pairwise distances."""

    def distances(a: Tensor, b: Tensor) -> np.ndarray:
        return np.linalg.norm(a.double().numpy()[:, None] - b.double().numpy()[None], axis=2)

    def kth(matrix: np.ndarray) -> np.ndarray:
        return np.sort(matrix, axis=1)[:, k]  # the nearest image is the image itself

    real, fake, between = (
        kth(distances(real_mD, real_mD)),
        kth(distances(fake_nD, fake_nD)),
        distances(real_mD, fake_nD),
    )
    return {
        "precision": (between < real[:, None]).any(axis=0).mean(),
        "recall": (between < fake[None]).any(axis=1).mean(),
        "density": (1.0 / k) * (between < real[:, None]).sum(axis=0).mean(),
        "coverage": (between.min(axis=1) < real).mean(),
    }


def measured(real_mD: Tensor, fake_nD: Tensor, k: int) -> dict[str, float]:
    metric = Manifold(real_mD, k)
    for part in fake_nD.split(9):
        metric.update(part)
    return {name: value.item() for name, value in metric.compute().items()}


@PROPERTY
@given(
    n=st.integers(6, 60),
    m=st.integers(6, 60),
    dim=st.integers(1, 12),
    k=st.integers(1, 5),
    shift=st.floats(0, 3),
)
def test_manifold_equals_the_published_computation(
    n: int, m: int, dim: int, k: int, shift: float
) -> None:
    source = torch.Generator().manual_seed(n * 1000 + m)
    real_mD, fake_nD = (
        torch.randn(m, dim, generator=source),
        0.7 * torch.randn(n, dim, generator=source) + shift,
    )
    assert measured(real_mD, fake_nD, k) == pytest.approx(published(real_mD, fake_nD, k))


def test_manifold_on_a_line_by_hand() -> None:
    """Real images are at 0, 1 and 10, with radii 1, 1 and 9.

    Generated images at 0.5, 4 and -5 are in 2, 1 and 0 of these balls.
    """
    real_mD, fake_nD = torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([[0.5], [4.0], [-5.0]])
    values = measured(real_mD, fake_nD, k=1)
    assert values["precision"] == pytest.approx(2 / 3)
    assert values["density"] == pytest.approx((2 + 1 + 0) / 3)
    assert values["coverage"] == pytest.approx(1)  # the distance from 10 to 4 is 6
    assert values["recall"] == pytest.approx(
        2 / 3
    )  # radii 3.5, 3.5 and 5.5; the distance from 10 is 6 to 4 and 9.5 to 0.5


@pytest.mark.parametrize("chunk", [1, 7, 50])
def test_the_chunk_size_has_no_effect(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = torch.Generator().manual_seed(3)
    real_mD, fake_nD = torch.randn(50, 4, generator=source), torch.randn(40, 4, generator=source)
    whole = measured(real_mD, fake_nD, 5)
    monkeypatch.setattr(manifold, "CHUNK", chunk)
    assert measured(real_mD, fake_nD, 5) == pytest.approx(whole)


def test_one_repeated_image_covers_nothing() -> None:
    """Equal generated images have neighbourhoods of radius 0, even far from the origin."""
    source = torch.Generator().manual_seed(4)
    real_mD = 100 + torch.randn(200, 6, generator=source)
    values = measured(real_mD, real_mD[:1].expand(200, -1) + 1e-3, 5)
    assert values["precision"] == 1
    assert values["recall"] == 0
    assert values["coverage"] < 0.2


def test_too_few_images_for_the_neighbours_are_refused() -> None:
    with pytest.raises(ValueError, match="k=5: needs more than 5 images, but there are 5"):
        Manifold(torch.randn(5, 2), 5)
    metric = Manifold(torch.randn(6, 2), 5)
    metric.update(torch.randn(5, 2))
    with pytest.raises(ValueError, match="there are 5"):
        metric.compute()
