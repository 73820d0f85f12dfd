"""FID, KID, two-sample test and LPIPS, against closed forms and explicit estimators.

Shape suffixes: n generated images, m real images, D features.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor
from torchmetrics.functional.image.lpips import learned_perceptual_image_patch_similarity

from netinv_lightning.metrics.fidelity import frechet_distance, kernel_distance
from netinv_lightning.metrics.lpips import LPIPS_BACKBONE, LPIPS_SIDE, ClassLPIPS
from netinv_lightning.metrics.two_sample import TwoSample


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_moments(n: int, mean_D: Tensor, root_DD: Tensor, seed: int) -> Tensor:
    """Return features with exactly the mean `mean_D` and the covariance root root'."""
    x_nD = seeded(n, len(mean_D), seed=seed)
    x_nD = x_nD - x_nD.mean(dim=0)
    whitening = torch.linalg.inv(torch.linalg.cholesky(torch.cov(x_nD.T))).T
    return x_nD @ whitening @ root_DD.T + mean_D


def test_frechet_distance_of_two_gaussians() -> None:
    """Test |m1 - m2|^2 + sum (s1 - s2)^2, for covariances with the same axes.

    The axes are rotated by 30 degrees.
    """
    cosine, sine = math.cos(math.pi / 6), math.sin(math.pi / 6)
    axes_DD = torch.tensor([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]], dtype=torch.float64)
    one, other = torch.tensor([1.0, 2, 0.5]).double(), torch.tensor([1.5, 0.5, 2]).double()
    mean_D = torch.tensor([1.0, -2, 0.5]).double()
    real_mD = with_moments(50, torch.zeros(3).double(), axes_DD * one, seed=1)
    fake_nD = with_moments(80, mean_D, axes_DD * other, seed=2)
    metric = frechet_distance(real_mD)
    for _ in range(2):  # a reset keeps the real features only
        for part in fake_nD.split(30):
            metric.update(part, real=False)
        assert metric.compute().item() == pytest.approx(
            (1 + 4 + 0.25) + (0.25 + 2.25 + 2.25), rel=1e-6
        )
        metric.reset()


def test_kernel_distance_equals_the_unbiased_estimator() -> None:
    """A subset has as many images as the set, so every subset is the whole set."""
    real_mD, fake_nD = seeded(40, 5, seed=1), 0.8 * seeded(40, 5, seed=2) + 0.3

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / 5 + 1) ** 3

    def off_diagonal(k: Tensor) -> Tensor:
        return (k.sum() - k.diagonal().sum()) / (40 * 39)

    expected = (
        off_diagonal(kernel(real_mD, real_mD))
        + off_diagonal(kernel(fake_nD, fake_nD))
        - 2 * kernel(real_mD, fake_nD).mean()
    )
    metric = kernel_distance(real_mD, generated=40)
    metric.update(fake_nD, real=False)
    mean, spread = metric.compute()
    assert mean.item() == pytest.approx(expected.item(), rel=1e-9)
    assert spread.item() == pytest.approx(0, abs=1e-9)


def test_kernel_distance_uses_no_global_randomness() -> None:
    real_mD, fake_nD = seeded(60, 4), seeded(30, 4, seed=1)

    def measured(seed: int) -> float:
        metric = kernel_distance(real_mD, generated=30, seed=seed)
        metric.update(fake_nD, real=False)
        return metric.compute()[0].item()

    before = torch.get_rng_state()
    assert measured(0) == measured(0) != measured(1)
    assert torch.equal(torch.get_rng_state(), before)


# The two-sample test


def two_sample(real_mD: Tensor, fake_nD: Tensor, seed: int = 0) -> float:
    metric = TwoSample(real_mD, seed)
    for part in fake_nD.split(1000):
        metric.update(part)
    return metric.compute().item()


@pytest.mark.parametrize("distance", [0.0, 1.0, 2.0])
def test_two_sample_accuracy_reaches_the_bayes_optimum(distance: float) -> None:
    """The Bayes classifier of two unit Gaussians at distance d is correct with probability Phi(d /
    2).
    """
    shift_D = torch.tensor([distance, 0, 0, 0], dtype=torch.float64)
    best = 0.5 * (1 + math.erf(distance / 2 / math.sqrt(2)))
    assert two_sample(seeded(6000, 4, seed=1), seeded(6000, 4, seed=2) + shift_D) == pytest.approx(
        best, abs=0.02
    )


def test_two_sample_classes_have_equal_weight() -> None:
    """Otherwise, always predicting the larger class would reach 0.91."""
    assert two_sample(seeded(4000, 3, seed=1), seeded(400, 3, seed=2)) == pytest.approx(
        0.5, abs=0.08
    )


def test_two_sample_ignores_a_constant_feature() -> None:
    real_mD, fake_nD = seeded(400, 3, seed=1), seeded(400, 3, seed=2) + torch.tensor([20.0, 0, 0])
    real_mD[:, 1] = fake_nD[:, 1] = 5
    assert two_sample(real_mD, fake_nD) == 1


# LPIPS


def test_lpips_of_pairs_within_a_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metric and reference use random instead of pretrained backbone weights."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=LPIPS_BACKBONE):
        ClassLPIPS()
    (tmp_path / "checkpoints").mkdir()
    torch.manual_seed(0)
    torch.save(
        torchvision.models.alexnet(weights=None).state_dict(),
        tmp_path / "checkpoints" / LPIPS_BACKBONE,
    )
    metric = ClassLPIPS()
    x_nCHW = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    metric.update(x_nCHW[:1], torch.tensor([7]))  # no pair
    assert math.isnan(metric.compute())
    metric.update(x_nCHW, torch.tensor([1, 0, 1, 2, 1]))  # pairs: 0 and 2, 2 and 4

    def distance(i: int, j: int) -> float:
        large = torch.nn.functional.interpolate(
            x_nCHW, size=(LPIPS_SIDE,) * 2, mode="bilinear", antialias=True
        ).expand(-1, 3, -1, -1)
        return learned_perceptual_image_patch_similarity(
            large[[i]], large[[j]], net_type="alex", normalize=True
        ).item()

    assert metric.compute().item() == pytest.approx((distance(0, 2) + distance(2, 4)) / 2, rel=1e-4)
    assert metric.compute() > 1e-3
    metric.reset()
    metric.update(x_nCHW[[0, 0]], torch.tensor([1, 1]))
    assert metric.compute() == 0
