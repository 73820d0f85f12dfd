"""Conditioning of the generator: vectors, matrices and the target distribution P.

Shape suffixes: B batch, N classes, S side of the matrix.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.errors import InputError
from netinv_lightning.inversion.class_map import MATRICES
from netinv_lightning.inversion.conditioning import MODES, Conditioning
from netinv_lightning.inversion.temperature import default_temperature, typical_largest_share
from netinv_lightning.training.distributed import Stream

# number of classes: side S of the matrix for 28 x 28 images
SIDES = {2: 4, 3: 6, 10: 10, 28: 28, 29: 6, 100: 10}


def seeded(seed: int = 0) -> Stream:
    return Stream(seed)


def matrices(conditioning: Conditioning, label_B: Tensor) -> Tensor:
    matrix_BMSS = conditioning.of_labels(label_B).matrix_BMSS
    assert matrix_BMSS is not None
    return matrix_BMSS[:, 0]


# Vectors


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_vectors_are_the_softmax_of_a_normal_draw(temperature: float) -> None:
    condition = Conditioning(10, 28, temperature=temperature).sample(50, stream=seeded())
    expected_BN = (torch.randn(50, 10, generator=seeded().source) / temperature).softmax(dim=1)
    assert condition.vector_BN is not None
    torch.testing.assert_close(condition.vector_BN, expected_BN)
    torch.testing.assert_close(condition.vector_BN.sum(dim=1), torch.ones(50))
    assert torch.equal(condition.label_B, expected_BN.argmax(dim=1))
    assert condition.label_B.dtype == torch.int64


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_labels_are_uniform(classes: int, temperature: float) -> None:
    draws = 20_000
    label_B = (
        Conditioning(classes, 28, temperature=temperature).sample(draws, stream=seeded()).label_B
    )
    expected = draws / classes
    chi_square = (
        torch.bincount(label_B, minlength=classes) - expected
    ).square().sum().item() / expected
    assert (
        chi_square < {2: 10.83, 10: 27.88}[classes]
    )  # the 99.9th percentile of chi-squared with N - 1 degrees of freedom


def test_a_lower_temperature_makes_the_largest_entry_larger() -> None:
    def largest_B(temperature: float) -> Tensor:
        return (
            Conditioning(10, 28, temperature=temperature)
            .sample(200, stream=seeded())
            .target_BN.amax(dim=1)
        )

    assert (largest_B(0.5) > largest_B(1.0)).all()
    assert (largest_B(1.0) > largest_B(2.0)).all()
    assert largest_B(1e-4).mean().item() == pytest.approx(1, abs=1e-2)
    assert largest_B(1e6).mean().item() == pytest.approx(0.1, abs=1e-4)


def test_hot_vectors_are_one_hot_at_the_same_labels() -> None:
    soft, hot = Conditioning(10, 28), Conditioning(10, 28, vectors="hot")
    drawn = [
        soft.sample(30, stream=seeded()),
        hot.sample(30, stream=seeded()),
        soft.sample(30, stream=seeded(), hot=True),
    ]
    for condition in drawn[1:]:
        assert torch.equal(condition.label_B, drawn[0].label_B)
        assert condition.vector_BN is not None
        assert torch.equal(condition.vector_BN, F.one_hot(drawn[0].label_B, 10).float())
    kept_soft = hot.sample(30, stream=seeded(), hot=False)
    assert torch.equal(kept_soft.target_BN, drawn[0].target_BN)
    assert kept_soft.target_BN.amax() < 1


@pytest.mark.parametrize("classes", SIDES)
def test_conditions_of_given_labels(classes: int) -> None:
    label_B = torch.arange(classes)
    condition = Conditioning(classes, 28).of_labels(label_B)
    assert torch.equal(condition.label_B, label_B)
    assert condition.vector_BN is not None
    assert torch.equal(condition.vector_BN, torch.eye(classes))


def test_the_seed_determines_the_draw() -> None:
    conditioning = Conditioning(10, 28, matrix="outer_product")
    first, again, other = (conditioning.sample(8, stream=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.target_BN, again.target_BN)
    assert not torch.equal(first.target_BN, other.target_BN)
    assert first.matrix_BMSS is not None
    assert again.matrix_BMSS is not None
    assert torch.equal(first.matrix_BMSS, again.matrix_BMSS)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("classes", SIDES)
def test_vector_and_matrix_encode_the_same_label(classes: int, matrix: str) -> None:
    conditioning = Conditioning(classes, 28, matrix=matrix)
    condition = conditioning.sample(300, stream=seeded())
    assert condition.vector_BN is not None
    assert condition.matrix_BMSS is not None
    assert torch.equal(condition.vector_BN.argmax(dim=1), condition.label_B)
    if matrix == "hot_cross":
        assert torch.equal(condition.matrix_BMSS[:, 0], matrices(conditioning, condition.label_B))
        return
    S = conditioning.side
    grid, repeat = (classes, S // classes) if classes <= 28 else (S, 1)
    row_B, column_B = (
        (condition.label_B, condition.label_B)
        if classes <= 28
        else (condition.label_B // grid, condition.label_B % grid)
    )
    strongest_B = condition.matrix_BMSS[:, 0, ::repeat, ::repeat].flatten(1).argmax(dim=1)
    assert torch.equal(strongest_B, row_B * grid + column_B)


# Many classes, and some of them


def test_the_default_temperature_keeps_the_largest_entry() -> None:
    assert [default_temperature(N) for N in (2, 3, 10)] == [1.0, 1.0, 1.0]
    # By the equation: a = 1.4988, (N - 1) exp(0.5 - a) Phi(a - 1) / Phi(a) = 2.455
    assert typical_largest_share(10, 1.0) == pytest.approx(1 / 3.455, rel=1e-3)
    for N, expected in ((100, 0.4103), (1000, 0.2883)):
        assert default_temperature(N) == pytest.approx(expected, abs=1e-4)
        assert Conditioning(N, 64).temperature == default_temperature(N)
        assert typical_largest_share(N, default_temperature(N)) == pytest.approx(
            1 / 3.455, rel=1e-3
        )
    assert Conditioning(100, 28, temperature=0.7).temperature == 0.7


@pytest.mark.parametrize("classes", [10, 100, 1000])
def test_the_largest_entry_of_drawn_vectors_is_the_same(classes: int) -> None:
    target_BN = Conditioning(classes, 64).sample(4000, stream=seeded()).target_BN
    median = target_BN.amax(dim=1).median().item()
    assert median == pytest.approx(0.30, abs=0.02)  # 0.07 for 100 classes at temperature 1


def test_chosen_classes_alone_are_drawn() -> None:
    chosen, draws = [7, 30, 2], 9000
    conditioning = Conditioning(40, 28, classes=chosen)
    condition = conditioning.sample(draws, stream=seeded())
    count_N = torch.bincount(condition.label_B, minlength=40)
    assert set(count_N.nonzero().flatten().tolist()) == set(chosen)
    assert ((count_N[chosen] - draws / 3).abs() < 4 * (draws * 2 / 9) ** 0.5).all()
    assert condition.vector_BN is not None
    assert condition.vector_BN.shape == (draws, 3)
    assert condition.target_BN.shape == (draws, 40)
    assert torch.equal(condition.target_BN[:, chosen], condition.vector_BN)
    assert torch.equal(condition.target_BN.argmax(dim=1), condition.label_B)
    torch.testing.assert_close(condition.target_BN.sum(dim=1), torch.ones(draws))
    assert conditioning.matrix_shape == (1, 6, 6)  # of three classes, twice each
    assert conditioning.temperature == 1.0  # of three classes


def test_chosen_classes_are_conditioned_by_their_labels() -> None:
    chosen = Conditioning(1000, 224, classes=[5, 900, 17, 3])
    of_all, alone = Conditioning(4, 224), torch.tensor([17, 5, 900])
    condition = chosen.of_labels(alone)
    assert torch.equal(condition.label_B, alone)
    assert condition.place_B is not None
    assert condition.place_B.tolist() == [2, 0, 1]
    expected = of_all.of_labels(torch.tensor([2, 0, 1]))
    assert condition.vector_BN is not None
    assert expected.vector_BN is not None
    torch.testing.assert_close(condition.vector_BN, expected.vector_BN)
    assert condition.matrix_BMSS is not None
    assert expected.matrix_BMSS is not None
    assert torch.equal(condition.matrix_BMSS, expected.matrix_BMSS)
    with pytest.raises(InputError, match=r"labels=\[4\]: are not among application\.classes"):
        chosen.of_labels(torch.tensor([5, 4]))


# Modes


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("mode", MODES)
def test_the_target_equals_the_generators_input(mode: str, matrix: str) -> None:
    condition = Conditioning(10, 28, mode=mode, matrix=matrix).sample(20, stream=seeded())
    assert (condition.vector_BN is not None) == (mode in ("vector", "vector_matrix"))
    assert (condition.matrix_BMSS is not None) == (mode in ("matrix", "vector_matrix"))
    soft_BN = torch.randn(20, 10, generator=seeded().source).softmax(dim=1)
    only_label = mode == "label" or (mode == "matrix" and matrix == "hot_cross")
    expected_BN = F.one_hot(soft_BN.argmax(dim=1), 10).float() if only_label else soft_BN
    torch.testing.assert_close(condition.target_BN, expected_BN)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "vectors"}, "mode=vectors: choose from label, vector, matrix, vector_matrix"),
        ({"vectors": "cold"}, "vectors=cold: choose soft or hot"),
        ({"temperature": 0.0}, "temperature=0.0: must be above 0"),
        ({"temperature": float("nan")}, "temperature=nan: must be above 0"),
        ({"matrix": "cross"}, "matrix=cross: choose from hot_cross, diagonal, outer_product"),
    ],
)
def test_invalid_values_name_their_key(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Conditioning(10, 28, **arguments)
