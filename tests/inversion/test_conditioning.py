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

from netinv_lightning.inversion.conditioning import MATRICES, MODES, Conditioning
from netinv_lightning.training.distributed import Stream

PROPERTY = settings(deadline=None, derandomize=True, max_examples=40)
# number of classes: side S of the matrix for 28 x 28 images
SIDES = {2: 4, 3: 6, 10: 10, 28: 28, 29: 6, 100: 10}


def seeded(seed: int = 0) -> Stream:
    return Stream(seed)


def matrices(conditioning: Conditioning, label_B: Tensor) -> Tensor:
    matrix_B1SS = conditioning.of_labels(label_B).matrix_B1SS
    assert matrix_B1SS is not None
    return matrix_B1SS[:, 0]


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
    assert first.matrix_B1SS is not None
    assert again.matrix_B1SS is not None
    assert torch.equal(first.matrix_B1SS, again.matrix_B1SS)


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
    diagonal = Conditioning(4, 28, matrix="diagonal").of_vectors(vector_BN).matrix_B1SS
    outer = Conditioning(4, 28, matrix="outer_product").of_vectors(vector_BN).matrix_B1SS
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
    assert condition.matrix_B1SS is not None
    assert torch.equal(condition.vector_BN.argmax(dim=1), condition.label_B)
    if matrix == "hot_cross":
        assert torch.equal(condition.matrix_B1SS[:, 0], matrices(conditioning, condition.label_B))
        return
    S = conditioning.side
    grid, repeat = (classes, S // classes) if classes <= 28 else (S, 1)
    row_B, column_B = (
        (condition.label_B, condition.label_B)
        if classes <= 28
        else (condition.label_B // grid, condition.label_B % grid)
    )
    strongest_B = condition.matrix_B1SS[:, 0, ::repeat, ::repeat].flatten(1).argmax(dim=1)
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


def test_more_classes_than_pixels_are_refused() -> None:
    assert Conditioning(784, 28).side == 28
    with pytest.raises(ValueError, match=r"^num_classes=785:"):
        Conditioning(785, 28)


# Modes


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("mode", MODES)
def test_the_target_equals_the_generators_input(mode: str, matrix: str) -> None:
    condition = Conditioning(10, 28, mode=mode, matrix=matrix).sample(20, stream=seeded())
    assert (condition.vector_BN is not None) == (mode in ("vector", "vector_matrix"))
    assert (condition.matrix_B1SS is not None) == (mode in ("matrix", "vector_matrix"))
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
