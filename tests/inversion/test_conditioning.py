"""Conditioning of the generator: vectors, matrices and the target distribution P.

Shape suffixes: B batch, N classes, S side of the matrix.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from netinv_lightning.errors import InputError
from netinv_lightning.inversion.class_map import MATRICES
from netinv_lightning.inversion.conditioning import MODES, Conditioning
from netinv_lightning.inversion.temperature import default_temperature, typical_largest_share
from netinv_lightning.training.distributed import Stream

PROPERTY = settings(deadline=None, derandomize=True, max_examples=40)
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


# Matrices


@pytest.mark.parametrize("classes", [4, 10, 28])
def test_hot_matrix_equals_that_of_the_papers(classes: int) -> None:
    matrix_BSS = matrices(Conditioning(classes, 28), torch.arange(classes))
    expected_BSS = torch.zeros(classes, classes, classes)
    for label in range(classes):
        expected_BSS[label, label, :] = 1
        expected_BSS[label, :, label] = 1
    assert torch.equal(matrix_BSS, expected_BSS)


def test_hot_matrix_of_few_and_of_many_classes() -> None:
    first_SS, second_SS = matrices(Conditioning(2, 28), torch.arange(2))
    assert torch.equal(
        first_SS, torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]])
    )
    assert torch.equal(second_SS, first_SS.flip(0, 1))
    (many_SS,) = matrices(Conditioning(100, 28), torch.tensor([37]))  # 10 x 10: row 3, column 7
    assert many_SS.sum() == 19
    assert (many_SS[3] == 1).all()
    assert (many_SS[:, 7] == 1).all()


def test_soft_matrices_by_hand() -> None:
    vector_BN = torch.tensor([[0.1, 0.4, 0.2, 0.3]])
    diagonal = Conditioning(4, 28, matrix="diagonal").of_vectors(vector_BN).matrix_BMSS
    outer = Conditioning(4, 28, matrix="outer_product").of_vectors(vector_BN).matrix_BMSS
    assert diagonal is not None
    assert outer is not None
    torch.testing.assert_close(diagonal[0, 0], torch.diag(torch.tensor([0.25, 1.0, 0.5, 0.75])))
    torch.testing.assert_close(outer[0, 0], vector_BN.T @ vector_BN / 0.16)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("classes", SIDES)
def test_every_class_has_its_own_matrix(classes: int, matrix: str) -> None:
    conditioning = Conditioning(classes, 28, matrix=matrix)
    matrix_BSS = matrices(conditioning, torch.arange(classes))
    assert conditioning.side == SIDES[classes]
    assert matrix_BSS.shape == (classes, conditioning.side, conditioning.side)
    assert len(matrix_BSS.flatten(1).unique(dim=0)) == classes
    assert matrix_BSS.amin() == 0
    assert (matrix_BSS.amax(dim=(1, 2)) == 1).all()


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


@PROPERTY
@given(image_size=st.integers(28, 64), data=st.data())
def test_the_side_equals_n_if_n_fits(image_size: int, data: st.DataObject) -> None:
    fitting, many = (
        data.draw(st.integers(4, image_size)),
        data.draw(st.integers(image_size + 1, image_size**2)),
    )
    assert Conditioning(fitting, image_size).side == fitting
    side = Conditioning(many, image_size).side
    assert 4 <= side <= image_size
    assert (side - 1) ** 2 < many <= side**2  # no larger than necessary


def test_more_classes_than_pixels_have_several_channels() -> None:
    assert Conditioning(784, 28).matrix_shape == (1, 28, 28)
    many = Conditioning(1000, 28)  # two channels of 500 classes; 22^2 < 500 < 23^2
    assert many.matrix_shape == (2, 23, 23)
    matrix_BMSS = many.of_labels(torch.tensor([0, 523])).matrix_BMSS
    assert matrix_BMSS is not None
    assert matrix_BMSS.sum(dim=(2, 3)).tolist() == [[45, 0], [0, 45]]
    assert (matrix_BMSS[1, 1, 1] == 1).all()  # 523 is place 23 of channel 1: row 1, column 0
    assert (matrix_BMSS[1, 1, :, 0] == 1).all()


@pytest.mark.parametrize(
    ("classes", "sides", "expected"),
    [
        (10, 128, (1, 10, 10)),  # a row per class
        (100, 224, (1, 10, 10)),  # 100 rows would put the class late: ceil(sqrt(100))
        (1000, 224, (1, 32, 32)),
        (10, (32, 64), (1, 10, 10)),
        (40, (32, 64), (1, 7, 7)),
        (5, (128,), (1, 5, 1)),  # a signal: a cell per class
        (2, (128,), (1, 4, 1)),
        (300, (128,), (3, 100, 1)),
        (3, (), (3, 1, 1)),  # a table: a channel per class
    ],
)
@pytest.mark.parametrize("matrix", MATRICES)
def test_the_map_of_every_shape_tells_the_classes_apart(
    classes: int, sides: Any, expected: tuple[int, int, int], matrix: str
) -> None:
    conditioning = Conditioning(classes, sides, matrix=matrix)
    assert conditioning.matrix_shape == expected
    matrix_BMSS = conditioning.of_labels(torch.arange(classes)).matrix_BMSS
    assert matrix_BMSS is not None
    assert matrix_BMSS.shape == (classes, *expected)
    assert len(matrix_BMSS.flatten(1).unique(dim=0)) == classes
    assert (matrix_BMSS.amax(dim=(1, 2, 3)) == 1).all()


def test_the_map_of_a_signal_has_one_hot_cell() -> None:
    matrix_BMSS = Conditioning(5, (128,)).of_labels(torch.arange(5)).matrix_BMSS
    assert matrix_BMSS is not None
    assert torch.equal(matrix_BMSS[:, 0, :, 0], torch.eye(5))
    soft = Conditioning(4, (128,), matrix="diagonal").of_vectors(
        torch.tensor([[0.1, 0.4, 0.2, 0.3]])
    )
    assert soft.matrix_BMSS is not None
    torch.testing.assert_close(soft.matrix_BMSS.flatten(), torch.tensor([0.25, 1.0, 0.5, 0.75]))


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
