"""Size and concentration of perturbations, and the paired bootstrap of their AUROCs."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from netinv_lightning.inversion.perturbation import NORMS, Perturbation
from netinv_lightning.metrics.detection import auroc_interval
from netinv_lightning.ood.paired_auroc import PairedBootstrap
from netinv_lightning.ood.perturbation_study import (
    concentration,
    radius,
)
from netinv_lightning.training.distributed import Stream
from tests.ood.test_perturbation_study import source


def random_change(norm: str, rms: float, n: int, P: int) -> Tensor:
    """Return unclipped random perturbations of grey images, [n, 1, 1, P]."""
    gray = torch.full((n, 1, 1, P), 0.5)
    perturbation = Perturbation(norm, radius(norm, rms, P), clamp=False)
    return perturbation(gray, torch.zeros(n, dtype=torch.long), lambda x: x, Stream(0)) - gray


# Strength and concentration


@pytest.mark.parametrize("P", [12, 784])
@pytest.mark.parametrize("norm", NORMS)
def test_random_perturbations_of_all_norms_have_the_same_rms(norm: str, P: int) -> None:
    change_nP = random_change(norm, 0.03, 4000, P).flatten(1).double()
    assert float(change_nP.square().mean().sqrt()) == pytest.approx(0.03, rel=0.02)
    if norm == "l2":
        torch.testing.assert_close(
            change_nP.square().mean(dim=1).sqrt(),
            torch.full((4000,), 0.03).double(),
            rtol=1e-4,
            atol=0,
        )


def test_radii_by_hand() -> None:
    """For a single value every norm is its magnitude, and L1 and L2 draw only the sign."""
    assert [radius(norm, 0.1, 1) for norm in NORMS] == pytest.approx([0.1, 0.1, 0.1 * 3**0.5])
    assert [radius(norm, 0.1, 4) for norm in NORMS] == pytest.approx(
        [0.1 * 10**0.5, 0.2, 0.1 * 3**0.5]
    )


def test_concentration_in_closed_form() -> None:
    """Compute second moments above the 99 % quantile: Laplace, normal, uniform distribution."""
    log, z = math.log(100), NormalDist().inv_cdf(0.995)
    expected = {
        "l1": 0.01 * (log**2 + 2 * log + 2) / 2,
        "l2": 2 * z * NormalDist().pdf(z) + 0.01,
        "linf": 1 - 0.99**3,
    }
    reached = {norm: concentration(random_change(norm, 0.01, 50, 10_000)) for norm in NORMS}
    assert reached == pytest.approx(expected, rel=0.02)
    assert expected == pytest.approx({"l1": 0.162, "l2": 0.0845, "linf": 0.0297}, rel=0.005)


def test_concentration_sums_the_channels_of_a_pixel() -> None:
    change = torch.zeros(1, 3, 10, 20)
    change[0, :, 0, :4] = 0.1  # the two most changed of 200 pixels carry half of it
    assert concentration(change) == pytest.approx(0.5)
    change[0, 0, 5, 5] = -0.3  # 0.09 of 0.21, and 0.12 with one more pixel
    assert concentration(change) == pytest.approx(0.12 / 0.21)
    assert concentration(torch.ones(3, 1, 10, 10)) == pytest.approx(0.01)


# Paired bootstrap


def test_aurocs_of_resamples_equal_those_of_the_drawn_images() -> None:
    score_n, score_m = (
        torch.randint(6, (size,), generator=source(size)).double() for size in (23, 31)
    )  # integers, so there are ties
    bootstrap = PairedBootstrap(23, 31, seed=5)
    auroc_S = bootstrap.aurocs(score_n, score_m)
    for s in (0, 1, 2, 1000):
        drawn = [
            score_n.repeat_interleave(bootstrap.count_Sn[s].long()),
            score_m.repeat_interleave(bootstrap.count_Sm[s].long()),
        ]
        assert [len(scores) for scores in drawn] == [23, 31]
        assert float(auroc_S[s]) == pytest.approx(
            roc_auc_score([0] * 23 + [1] * 31, torch.cat(drawn))
        )
    assert torch.equal(bootstrap.count_Sn[0], torch.ones(23).double())


def test_spread_of_resamples_equals_the_bootstrap_interval() -> None:
    score_n, score_m = (
        torch.randn(300, generator=source(1)).double(),
        torch.randn(300, generator=source(2)).double() + 0.7,
    )
    ends = (
        PairedBootstrap(300, 300, seed=0)
        .aurocs(score_n, score_m)[1:]
        .quantile(torch.tensor([0.025, 0.975]).double())
    )
    assert ends.tolist() == pytest.approx(auroc_interval(score_n, score_m, 0), abs=0.006)
