"""Sparse autoencoders: exact sparsity, closed forms, recovery of planted dictionaries.

Shape suffixes: n samples, B batch, D features, M units, A planted atoms, C channels, h height,
w width.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.errors import InputError
from netinv_lightning.interpretability.activations import reconstruction
from netinv_lightning.interpretability.autoencoders import (
    ConvSparse,
    KSparse,
    SparseAutoencoder,
    keep_largest,
    train_autoencoder,
)

ATOMS, ACTIVE = 24, 3


def planted(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Samples [n, 16] of 3 of 24 unit atoms each, with coefficients from 1 to 2, and the atoms [A,
    D].
    """
    atoms_AD = F.normalize(
        torch.randn(ATOMS, 16, generator=torch.Generator().manual_seed(0)), dim=1
    )
    source = torch.Generator().manual_seed(seed)
    chosen_nA = torch.rand(n, ATOMS, generator=source).argsort(dim=1) < ACTIVE
    return (chosen_nA * (1 + torch.rand(n, ATOMS, generator=source))) @ atoms_AD, atoms_AD


def planted_maps(n: int, seed: int) -> Tensor:
    """Maps [n, 3, 6, 6] with one of 4 filters of 3 x 3, with strengths from 0.5 to 1.5."""
    filters_MCKK = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    source = torch.Generator().manual_seed(seed)
    code_nMhw = torch.zeros(n, 4, 6, 6)
    place = [
        torch.randint(low, high, (n,), generator=source) for low, high in ((0, 4), (1, 5), (1, 5))
    ]
    code_nMhw[torch.arange(n), *place] = 0.5 + torch.rand(n, generator=source)
    return F.conv_transpose2d(code_nMhw, filters_MCKK, padding=1)


# Sparsity is exact


@pytest.mark.parametrize("active", [1, 5, 32])
def test_k_sparse_keeps_exactly_the_k_largest(active: int) -> None:
    model = KSparse(8, 32, active, seed=0)
    with torch.no_grad():
        model.bias_M += 100  # without the limit all units would be active
    f_BD = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    a_BM = model.encode(f_BD)
    pre_BM = f_BD @ model.encoder.T + 100
    assert ((a_BM > 0).sum(dim=1) == active).all()
    for a_M, pre_M in zip(a_BM, pre_BM, strict=True):
        largest = pre_M.argsort(descending=True)[:active]
        torch.testing.assert_close(a_M[largest], pre_M[largest])
        assert a_M.count_nonzero() == active


def test_only_positive_activations_are_kept() -> None:
    model = KSparse(2, 4, 3, seed=0)
    with torch.no_grad():
        model.encoder.copy_(torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]]))
    assert model.encode(torch.tensor([[2.0, -3.0], [0.0, 5.0]])).tolist() == [
        [2, 0, 0, 3],
        [0, 5, 0, 0],
    ]


@pytest.mark.parametrize(("h", "w"), [(2, 2), (4, 6), (3, 3), (5, 2)])
def test_pooling_keeps_one_activation_per_region_and_map(h: int, w: int) -> None:
    a_BMhw = torch.randn(3, 4, h, w, generator=torch.Generator().manual_seed(0))
    kept_BMhw = keep_largest(a_BMhw)
    for top in range(0, h, 2):
        for left in range(0, w, 2):
            region, largest = (
                x[:, :, top : top + 2, left : left + 2].flatten(2) for x in (a_BMhw, kept_BMhw)
            )
            assert (largest.count_nonzero(dim=2) == 1).all()
            assert torch.equal(largest.sum(dim=2), region.amax(dim=2))
            assert torch.equal(largest.ne(0).int().argmax(dim=2), region.argmax(dim=2))


def test_one_of_equal_values_in_a_region_is_kept() -> None:
    assert keep_largest(torch.ones(1, 1, 4, 4))[0, 0].tolist() == [
        [1, 0, 1, 0],
        [0, 0, 0, 0],
        [1, 0, 1, 0],
        [0, 0, 0, 0],
    ]


def test_channels_compete_for_each_region() -> None:
    """Only the maps with the largest values in a region keep them, in their places."""
    a_BMhw = torch.randn(3, 5, 4, 4, generator=torch.Generator().manual_seed(0)).abs()
    everything_BMhw, kept_BMhw = keep_largest(a_BMhw), keep_largest(a_BMhw, active=2)
    for top, left in ((0, 0), (0, 2), (2, 0), (2, 2)):
        every_BM, winner_BM = (
            x[:, :, top : top + 2, left : left + 2].amax(dim=(2, 3))
            for x in (everything_BMhw, kept_BMhw)
        )
        assert (winner_BM.count_nonzero(dim=1) == 2).all()
        assert torch.equal(winner_BM.topk(2, dim=1).values, every_BM.topk(2, dim=1).values)
    assert torch.equal(kept_BMhw[kept_BMhw > 0], a_BMhw[kept_BMhw > 0])
    assert torch.equal(keep_largest(a_BMhw, active=5), everything_BMhw)


def test_convolutional_activations_are_never_negative() -> None:
    model = ConvSparse(3, 5, seed=0)
    a_BMhw = model.encode(torch.randn(20, 3, 5, 5, generator=torch.Generator().manual_seed(0)))
    assert a_BMhw.shape == (20, 5, 5, 5)
    assert a_BMhw.min() == 0
    assert a_BMhw.count_nonzero(dim=(2, 3)).max() <= 9
    assert torch.equal(model.unit_activations(a_BMhw), a_BMhw.amax(dim=(2, 3)))


# Closed forms


@pytest.mark.parametrize("shape", [(400, 6), (100, 6, 3, 2)])
def test_standardised_data_have_mean_0_and_mean_variance_1(shape: tuple[int, ...]) -> None:
    x = (
        torch.randn(shape, generator=torch.Generator().manual_seed(0))
        * torch.linspace(1, 3, 6).view(-1, *[1] * (len(shape) - 2))
        + 5
    )
    model: SparseAutoencoder = (
        KSparse(6, 4, 1, seed=0) if len(shape) == 2 else ConvSparse(6, 4, seed=0)
    )
    model.standardise_by(x)
    standard = ((x - model.mean) / model.scale).transpose(0, 1).flatten(1)
    torch.testing.assert_close(standard.mean(dim=1), torch.zeros(6), atol=1e-5, rtol=0)
    assert standard.square().mean() == pytest.approx(1, rel=1e-5)
    assert standard.std(dim=1)[5] / standard.std(dim=1)[0] == pytest.approx(
        3, rel=0.2
    )  # one scale for all features


def test_without_active_units_all_variance_is_unexplained() -> None:
    f_nD, _ = planted(500, 1)
    model = KSparse(16, 8, 2, seed=0)
    model.standardise_by(f_nD)
    with torch.no_grad():
        model.bias_M -= 1e6
    torch.testing.assert_close(model(f_nD), f_nD.mean(dim=0).expand_as(f_nD))
    measured = reconstruction(model, f_nD, f_nD)
    assert measured.unexplained == pytest.approx(1, rel=1e-4)
    assert (measured.active, measured.dead) == (0, 1)


def test_one_activation_decodes_to_its_filter_in_its_place() -> None:
    model = ConvSparse(2, 3, seed=0)
    model.scale.fill_(10)
    a_BMhw = torch.zeros(1, 3, 5, 5)
    a_BMhw[0, 1, 2, 3] = 0.5
    drawn_Chw = model.decode(a_BMhw)[0]
    torch.testing.assert_close(drawn_Chw[:, 1:4, 2:5], 5 * model.decoder[1])
    assert drawn_Chw.count_nonzero() == 2 * 9
    assert drawn_Chw.detach().norm() == pytest.approx(5, rel=1e-5)  # a filter has norm 1


# Planted structure


def test_a_planted_dictionary_is_found() -> None:
    f_nD, atoms_AD = planted(4000, 1)
    held_nD, _ = planted(1000, 2)
    model = KSparse(16, 2 * ATOMS, ACTIVE, seed=0)
    before = reconstruction(model, f_nD, held_nD).unexplained
    curve = train_autoencoder(model, f_nD, seed=0)
    measured = reconstruction(model, f_nD, held_nD)
    assert len(curve) == 50
    assert curve[-1] < 0.2 * curve[0]
    assert measured.unexplained < 0.1 < before
    assert measured.unexplained < 0.25 * measured.unexplained_pca  # three components are not enough
    assert measured.active == pytest.approx(ACTIVE, abs=0.3)
    best_A = (atoms_AD @ model.decoder.T).amax(dim=1)
    assert (best_A > 0.95).float().mean() > 0.9
    torch.testing.assert_close(model.decoder.norm(dim=1), torch.ones(2 * ATOMS))


def test_planted_filters_are_found() -> None:
    maps_nChw, held_nChw = planted_maps(600, 1), planted_maps(200, 2)
    model = ConvSparse(3, 8, seed=0)
    curve = train_autoencoder(model, maps_nChw, seed=0, epochs=30)
    assert curve[-1] < 0.5 * curve[0]
    assert reconstruction(model, maps_nChw, held_nChw).unexplained < 0.15
    torch.testing.assert_close(model.decoder.flatten(1).norm(dim=1), torch.ones(8))
    sparser = ConvSparse(3, 8, seed=0, active=2)
    train_autoencoder(sparser, maps_nChw, seed=0, epochs=30)
    measured = reconstruction(sparser, maps_nChw, held_nChw)
    assert measured.unexplained < 0.3
    assert measured.active <= 2 * 9  # 9 regions of 2 x 2 in a map of 6 x 6


def test_the_loss_is_the_fraction_of_variance_unexplained() -> None:
    """In the last epoch the weights hardly change, so its mean loss equals that of the training
    data.
    """
    f_nD, _ = planted(1000, 1)
    model = KSparse(16, 32, ACTIVE, seed=0)
    curve = train_autoencoder(model, f_nD, seed=0, epochs=20)
    assert reconstruction(model, f_nD, f_nD).unexplained == pytest.approx(curve[-1], rel=0.02)


def test_constant_features_are_handled() -> None:
    f_nD = torch.cat([planted(300, 1)[0], torch.full((300, 2), 7.0)], dim=1)
    model = KSparse(18, 16, 4, seed=0)
    assert train_autoencoder(model, f_nD, seed=0, epochs=5)[-1] < 1
    alike_nD = torch.full((20, 18), 3.0)
    train_autoencoder(model, alike_nD, seed=0, epochs=1)
    assert model(alike_nD).isfinite().all()


# Repeatability


@pytest.mark.parametrize("kind", ["k-sparse", "convolutional"])
def test_training_is_repeatable_and_uses_no_global_randomness(kind: str) -> None:
    x = planted(150, 1)[0] if kind == "k-sparse" else planted_maps(150, 1)

    def trained(seed: int, order: int) -> tuple[list[float], dict[str, Tensor]]:
        model = KSparse(16, 32, 4, seed) if kind == "k-sparse" else ConvSparse(3, 4, seed)
        return train_autoencoder(model, x, order, epochs=3), model.state_dict()

    state = torch.get_rng_state()
    curve, weights = trained(0, 0)
    again, same = trained(0, 0)
    assert curve == again
    assert all(torch.equal(weight, same[name]) for name, weight in weights.items())
    assert torch.equal(torch.get_rng_state(), state)
    assert trained(1, 0)[0] != curve
    assert trained(0, 1)[0] != curve


def test_the_state_dict_is_complete() -> None:
    f_nD, _ = planted(300, 1)
    model, other = KSparse(16, 32, 4, seed=0), KSparse(16, 32, 4, seed=1)
    train_autoencoder(model, f_nD, seed=0, epochs=2)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(f_nD), other(f_nD))


# Invalid input


@pytest.mark.parametrize(("units", "active"), [(16, 0), (16, 17), (16, -1)])
def test_a_number_of_active_units_out_of_range_is_refused(units: int, active: int) -> None:
    with pytest.raises(
        InputError,
        match=rf"^interpret\.sparse_active={active}: must be from 1 to interpret\.sparse_units=16",
    ):
        KSparse(8, units, active, seed=0)


def test_an_autoencoder_without_units_is_refused() -> None:
    with pytest.raises(InputError, match=r"^interpret\.sparse_units=0: must be 1 or more"):
        KSparse(8, 0, 1, seed=0)
    with pytest.raises(InputError, match=r"^interpret\.sparse_units=-3: must be 1 or more"):
        ConvSparse(8, -3, seed=0)
