"""How often planted leaks are detected, and which images are exposed."""

from __future__ import annotations

import pytest
import torch

from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.metrics.operating_points import exact_interval
from netinv_lightning.privacy import detection_power as power
from netinv_lightning.privacy.detection_power import Power, detectable_share, power_line
from netinv_lightning.privacy.exposure import exposure
from netinv_lightning.privacy.loss_membership import compare_scores
from netinv_lightning.privacy.real_images import RealImages, real_images


@pytest.fixture(scope="module")
def digits() -> RealImages:
    return real_images(ImageDataModule("mnist5k", subset_size=200), largest=200)


def powers(*detected: int) -> list[Power]:
    shares = (0.01, 0.05, 0.2)
    return [Power(share, 1, 20, found, 0.5) for share, found in zip(shares, detected, strict=True)]


def test_detectable_share_needs_power_at_all_larger_shares() -> None:
    assert detectable_share(powers(18, 19, 20)) == 0.01
    assert detectable_share(powers(20, 17, 20)) == 0.2
    assert detectable_share(powers(20, 20, 17)) is None
    assert power_line(powers(0, 18, 20)).startswith("power: noisy copies of 5% of the training")
    assert power_line(powers(0, 0, 0)).startswith("power: even noisy copies of 20%")
    row = power.power_table(powers(0, 18, 20)).rows[1]
    assert row[:4] == ["5%", 1, "18 of 20", 0.9]
    assert row[4:6] == list(exact_interval(18, 20))


def test_only_large_planted_leaks_are_detected(
    digits: RealImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "SHARES", (0.005, 0.5))
    monkeypatch.setattr(power, "PLANTINGS", 5)
    found = power.detection_power(digits, count=200, attacks=3, control_auc_high=0.5, seed=0)
    assert [(part.images, part.plantings) for part in found] == [(1, 5), (100, 5)]
    assert found[0].detected < 5
    assert (found[1].detected, found[1].power) == (5, 1.0)
    assert found[0].auc < 0.6 < found[1].auc
    # A control with an AUC of 1 cannot be exceeded.
    none = power.detection_power(digits, count=200, attacks=3, control_auc_high=1.0, seed=0)
    assert [part.detected for part in none] == [0, 0]


def test_leaked_images_are_the_most_exposed(digits: RealImages) -> None:
    """One attack returns two members, of which one has a duplicate, and the other only noise."""
    members, held_out = digits.members, digits.held_out
    members.images_nCHW[1] = members.images_nCHW[0]
    members.labels_n[1] = members.labels_n[0]
    copies = Images(members.images_nCHW[[0, 7]], members.labels_n[[0, 7]])
    noise = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    attacks = {"noise": Images(noise, torch.arange(40) % 10), "copies": copies}
    score_m = torch.linspace(3, -3, len(members.labels_n))
    membership = compare_scores(score_m, torch.full((len(held_out.labels_n),), -1.0))
    found = exposure(attacks, digits, membership)
    assert set(found.index_m[:3].tolist()) == set(digits.member_index_m[[0, 1, 7]].tolist())
    assert found.attack[:3] == ["copies"] * 3
    assert found.rate_m[:3].tolist() == [0, 0, 0]
    assert found.correlation_m[:3].tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert float(found.rate_m[3:].min()) >= 0
    assert torch.equal(found.image_mCHW[0], found.reconstruction_mCHW[0])
    of_index = {index: row for row, index in enumerate(found.index_m.tolist())}
    first = of_index[int(digits.member_index_m[0])]
    assert int(found.similar_members_m[first]) >= 1
    assert float(found.loss_m[first]) == pytest.approx(0.0486, abs=1e-4)  # log(1 + exp(-3))
    assert float(found.loss_rate_m[first]) == 0
    assert sorted(found.outlier_rank_m.tolist()) == list(range(1, len(score_m) + 1))
    table = found.table([str(label) for label in range(10)])
    assert len(table.rows) == 20
    assert table.full is not None
    assert len(table.full.rows) == len(score_m)
