"""Matrices and maps that encode a label."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from netinv_lightning.inversion.class_map import MATRICES
from netinv_lightning.inversion.conditioning import Conditioning
from tests.inversion.test_conditioning import SIDES, matrices

PROPERTY = settings(deadline=None, derandomize=True, max_examples=40)


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
