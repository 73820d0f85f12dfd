"""Principal components, spread of classes, decision regions and t-SNE.

Shape suffixes: n samples, D features, K components, N classes, B a part of the samples.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.errors import InputError
from netinv_lightning.interpretability.embedding import (
    NEIGHBOURS,
    embed,
    embedding_stability,
    neighbour_overlap,
)
from netinv_lightning.interpretability.projection import Projection, spread
from netinv_lightning.interpretability.regions import (
    agreement,
    boundary_agreement,
    decision_regions,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Projection


def test_components_are_the_planted_axes() -> None:
    """Use independent axes with variances 9, 4 and 1, and a known rotation."""
    turn_DD = torch.linalg.qr(normal(3, 3, seed=1)).Q
    z_nD = normal(400, 3)
    z_nD = (
        torch.linalg.qr(z_nD - z_nD.mean(dim=0)).Q * 400**0.5 * torch.tensor([3.0, 2.0, 1.0])
    )  # exactly uncorrelated
    projection = Projection.fit(z_nD @ turn_DD.T + 5)
    torch.testing.assert_close(projection.variance_K, torch.tensor([9.0, 4.0, 1.0]) / 14)
    torch.testing.assert_close(
        (projection.components_KD @ turn_DD).abs(), torch.eye(3), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(projection.mean_D, torch.full((3,), 5.0))
    assert [
        projection.components_for(share) for share in (0.0, 0.6, 9 / 14 + 0.01, 0.9, 0.95, 1.0)
    ] == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(("n", "D"), [(40, 6), (5, 30)])
def test_reconstruction_loses_the_variance_of_missing_components(n: int, D: int) -> None:
    f_nD = normal(n, D) @ normal(D, D, seed=1) + 2
    projection = Projection.fit(f_nD)
    K = min(n, D)
    assert projection.variance_K.shape == (K,)
    assert float(projection.variance_K.sum()) == pytest.approx(1, abs=1e-5)
    total = (f_nD - f_nD.mean(dim=0)).square().sum()
    for k in range(K + 1):
        z_nk = projection.encode(f_nD, k)
        assert z_nk.shape == (n, k)
        lost = (projection.decode(z_nk) - f_nD).square().sum() / total
        assert float(lost) == pytest.approx(1 - float(projection.variance_K[:k].sum()), abs=1e-5)


def test_the_largest_entry_of_a_component_is_positive() -> None:
    f_nD = normal(50, 8) * torch.arange(1, 9)
    components_KD = Projection.fit(f_nD).components_KD
    assert bool(
        (components_KD.gather(1, components_KD.abs().argmax(dim=1, keepdim=True)) > 0).all()
    )
    torch.testing.assert_close(
        Projection.fit(-f_nD).components_KD, components_KD
    )  # a mirrored cloud has the same axes


def test_features_without_components_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"^samples=1: principal components need 2 samples or more$"
    ):
        Projection.fit(torch.zeros(1, 4))
    with pytest.raises(InputError, match=r"^samples=7: all have the same features"):
        Projection.fit(torch.ones(7, 4))
    projection = Projection.fit(normal(9, 4))
    with pytest.raises(
        InputError,
        match=r"5 principal components requested, but these features have 4\. Choose 0 to 4",
    ):
        projection.encode(normal(9, 4), 5)
    with pytest.raises(InputError, match=r"5 principal components requested"):
        projection.decode(normal(9, 5))


# Spread of classes


def test_spread_by_hand() -> None:
    """Class 0 is at 0 and 2, class 1 three times at 10, and class 2 is missing.

    The variances within classes are 1 and 0, and the mean is 6.4.
    """
    measured = spread(
        torch.tensor([[0.0], [2.0], [10.0], [10.0], [10.0]]), torch.tensor([0, 0, 1, 1, 1]), 3
    )
    assert measured.within_N[:2].tolist() == [1.0, 0.0]
    assert math.isnan(measured.within_N[2])
    between = 2 * 5.4**2 + 3 * 3.6**2
    assert measured.between == pytest.approx(between / (between + 2))
    assert measured.between_by_chance == pytest.approx(1 / 4)


def test_random_labels_reach_the_spread_expected_by_chance() -> None:
    f_nD, labels_n = normal(60, 5), torch.arange(60) % 6
    shuffled = [
        spread(
            f_nD, labels_n[torch.randperm(60, generator=torch.Generator().manual_seed(seed))], 6
        ).between
        for seed in range(200)
    ]
    assert spread(f_nD, labels_n, 6).between_by_chance == pytest.approx(5 / 59)
    assert sum(shuffled) / 200 == pytest.approx(5 / 59, abs=0.006)  # four standard errors


# Regions and agreement


def quadrants(f_BD: Tensor) -> Tensor:
    """Return logits of four classes by the signs of two features; a fifth is never predicted."""
    x_B, y_B = f_BD[:, 0], f_BD[:, 1]
    return torch.stack(
        [x_B + y_B, x_B - y_B, -x_B + y_B, -x_B - y_B, torch.full_like(x_B, -99.0)], dim=1
    )


def wide_first_two(n: int) -> Tensor:
    """Return features around 0 whose first two principal components are the first two features."""
    f_nD = normal(n, 6)
    f_nD = torch.linalg.qr(f_nD - f_nD.mean(dim=0)).Q * n**0.5
    return f_nD * torch.tensor([5.0, 4.0, 1.0, 0.5, 0.3, 0.2])


def test_regions_of_a_known_head() -> None:
    f_nD = wide_first_two(300)
    projection = Projection.fit(f_nD)
    points_n2 = projection.encode(f_nD, 2)
    regions = decision_regions(projection, quadrants, points_n2, resolution=41, margin=0.1)
    extent_2 = points_n2.max(dim=0).values - points_n2.min(dim=0).values
    for axis, line in enumerate((regions.x_W, regions.y_H)):
        assert float(line[0]) == pytest.approx(
            float(points_n2[:, axis].min() - 0.1 * extent_2[axis]), abs=1e-4
        )
        assert float(line[-1]) == pytest.approx(
            float(points_n2[:, axis].max() + 0.1 * extent_2[axis]), abs=1e-4
        )
    expected_HW = 2 * (regions.x_W[None, :] < 0).long() + (regions.y_H[:, None] < 0).long()
    assert torch.equal(regions.class_HW, expected_HW)
    assert regions.classes_present == 4 / 5
    corner = (
        quadrants(torch.tensor([[float(regions.x_W[0]), float(regions.y_H[0]), 0, 0, 0, 0]]))
        .softmax(dim=1)
        .max()
    )
    assert float(regions.confidence_HW[0, 0]) == pytest.approx(float(corner), abs=1e-4)


def test_agreement_drops_without_the_decisive_components() -> None:
    f_nD = wide_first_two(400)
    logits_nN = quadrants(f_nD)
    agreements = agreement(Projection.fit(f_nD), quadrants, f_nD, logits_nN, [0, 1, 2, 6])
    assert agreements[2] == agreements[6] == 1.0
    one_class = logits_nN.argmax(dim=1).bincount().max() / 400
    assert agreements[0] <= float(one_class)  # all samples get the same class
    assert agreements[1] == pytest.approx(0.5, abs=0.1)  # the sign of the second feature is lost
    near = boundary_agreement(Projection.fit(f_nD), quadrants, f_nD, logits_nN, [2], share=0.1)
    assert near == {2: 1.0}


def test_agreement_is_lower_near_the_boundary() -> None:
    """Two classes are separated by the sign of f0 + f1, where f0 has a wide spread.

    The first component determines the class of all samples except those near the boundary.
    """
    f_nD = wide_first_two(1000) * torch.tensor(
        [2.0, 0.3, 1, 1, 1, 1]
    )  # standard deviations 10 and 1.2

    def head(f_BD: Tensor) -> Tensor:
        return torch.stack([f_BD[:, 0] + f_BD[:, 1], -f_BD[:, 0] - f_BD[:, 1]], dim=1)

    projection, logits_nN = Projection.fit(f_nD), head(f_nD)
    everywhere = agreement(projection, head, f_nD, logits_nN, [1])[1]
    # The angle between the two boundaries
    assert everywhere == pytest.approx(1 - math.atan(0.12) / math.pi, abs=0.02)
    assert 0.4 < boundary_agreement(projection, head, f_nD, logits_nN, [1], share=0.05)[1] < 0.85
    margin_n = (logits_nN[:, 0] - logits_nN[:, 1]).abs()
    near_n = margin_n <= margin_n.sort().values[49]
    by_hand = agreement(projection, head, f_nD[near_n], logits_nN[near_n], [1])
    assert boundary_agreement(projection, head, f_nD, logits_nN, [1], share=0.05) == by_hand


def test_agreement_of_a_real_head_on_all_components() -> None:
    classifier = load_zoo("mnist_mlp")
    x_nCHW = (
        torch.rand(60, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        * torch.linspace(0, 1, 60)[:, None, None, None]
    )
    with torch.no_grad():
        logits_nN, features = classifier.logits_and_features(x_nCHW)
    f_nD = features["penultimate"]
    projection = Projection.fit(f_nD)
    assert agreement(projection, classifier.logits_from, f_nD, logits_nN, [60])[60] == 1.0
    regions = decision_regions(
        projection, classifier.logits_from, projection.encode(f_nD, 2), resolution=20
    )
    assert regions.class_HW.shape == regions.confidence_HW.shape == (20, 20)
    assert bool(((regions.confidence_HW >= 0.1) & (regions.confidence_HW <= 1)).all())


# t-SNE


def blobs(per_blob: int, D: int, apart: float, count: int = 3) -> tuple[Tensor, Tensor]:
    label_n = torch.arange(count * per_blob) % count
    return normal(count * per_blob, D) + apart * torch.eye(D)[label_n], label_n


def test_an_embedding_separates_blobs_and_is_repeatable() -> None:
    # more than 50 features are first reduced to principal components
    f_nD, label_n = blobs(30, 60, 40.0)
    e_n2 = embed(f_nD, 10, seed=3)
    assert e_n2.shape == (90, 2)
    assert torch.equal(embed(f_nD, 10, seed=3), e_n2)
    assert not torch.equal(embed(f_nD, 10, seed=4), e_n2)
    distance_nn = torch.cdist(e_n2, e_n2).fill_diagonal_(math.inf)
    assert torch.equal(label_n[distance_nn.argmin(dim=1)], label_n)


def test_overlap_of_neighbours_by_hand() -> None:
    assert neighbour_overlap(
        torch.tensor([[1, 2], [0, 2]]), torch.tensor([[2, 3], [2, 0]])
    ) == pytest.approx(0.75)


def test_unrelated_embeddings_overlap_by_chance() -> None:
    def neighbours(seed: int) -> Tensor:
        points_n2 = normal(300, 2, seed=seed)
        return (
            torch.cdist(points_n2, points_n2)
            .fill_diagonal_(math.inf)
            .topk(NEIGHBOURS, largest=False)
            .indices
        )

    assert neighbour_overlap(neighbours(0), neighbours(1)) == pytest.approx(
        NEIGHBOURS / 299, abs=0.01
    )


def test_stability_is_reported_with_its_controls() -> None:
    f_nD, _ = blobs(30, 8, 30.0)
    first, second = embedding_stability(f_nD, [5, 12], seeds=[0, 1])
    assert (first.perplexity, second.perplexity) == (5, 12)
    assert torch.equal(second.embeddings_Sn2[1], embed(f_nD, 12, seed=1))
    for measured in (first, second):
        assert measured.embeddings_Sn2.shape == (2, 90, 2)
        assert measured.overlap_by_chance == pytest.approx(10 / 89)
        # A blob has 29 other members, so the overlap is 10 / 29 if only the blobs are preserved.
        assert 0.45 < measured.overlap < 1
        assert measured.trustworthiness > 0.9
        assert measured.trustworthiness_by_chance == pytest.approx(0.5, abs=0.1)


def test_one_seed_has_no_overlap() -> None:
    (only,) = embedding_stability(normal(30, 4), [5], seeds=[0])
    assert math.isnan(only.overlap)


@pytest.mark.parametrize("perplexity", [0.5, 10, 30])
def test_an_unsuitable_perplexity_is_refused(perplexity: float) -> None:
    with pytest.raises(
        InputError,
        match=rf"^interpret\.perplexities={perplexity:g}: must be from 1 to below 10, a third of",
    ):
        embedding_stability(normal(30, 4), [5, perplexity], seeds=[0])
    with pytest.raises(InputError, match=r"interpret\.perplexities"):
        embed(normal(30, 4), perplexity, seed=0)


def test_too_few_samples_for_neighbours_are_refused() -> None:
    with pytest.raises(InputError, match=r"^samples=20: too few to compare 10 neighbours"):
        embedding_stability(normal(20, 4), [5], seeds=[0])
