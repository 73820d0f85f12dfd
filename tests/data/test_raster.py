"""Pictures of images with any number of channels, of signals and of tables, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from netinv_lightning.data.raster import BAR, HEIGHT, MARGIN, MOST_TILES, WIDEST, as_pictures


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_images_are_their_own_pictures(channels: int) -> None:
    x_nCHW = torch.rand(2, channels, 4, 6)
    assert as_pictures(x_nCHW) is x_nCHW


def test_other_channels_are_tiles_side_by_side() -> None:
    x_nCHW = torch.rand(2, 2, 3, 4)
    picture_n1HW = as_pictures(x_nCHW)
    assert picture_n1HW.shape == (2, 1, 3, 9)
    assert torch.equal(picture_n1HW[:, 0, :, :4], x_nCHW[:, 0])
    assert torch.equal(picture_n1HW[:, 0, :, 5:], x_nCHW[:, 1])
    assert (picture_n1HW[..., 4] == 1).all()
    assert as_pictures(torch.rand(1, 12, 3, 4)).shape == (1, 1, 3, MOST_TILES * 5 - 1)


def black(picture_HW: Tensor) -> list[tuple[int, int]]:
    return [(row, column) for row, column in (picture_HW == 0).nonzero().tolist()]


def test_a_signal_is_a_line_from_point_to_point() -> None:
    picture_3HW = as_pictures(torch.tensor([[[1.0, 1.0, 1 - 2 / 63, 0.0]]]))[0]
    assert picture_3HW.shape == (3, HEIGHT, 4 + 2 * MARGIN)
    assert (picture_3HW[..., :MARGIN] == 1).all()
    assert (picture_3HW[..., -MARGIN:] == 1).all()
    picture_3HW = picture_3HW[..., MARGIN:-MARGIN]
    assert torch.equal(picture_3HW[0], picture_3HW[2])
    expected = [(0, 0), (0, 1), (1, 1), (2, 1), *((row, 2) for row in range(2, 64)), (63, 3)]
    assert sorted(black(picture_3HW[0])) == sorted(expected)
    assert as_pictures(torch.rand(1, 2, 1000)).shape == (1, 3, HEIGHT, WIDEST + 2 * MARGIN)
    two = as_pictures(torch.stack([torch.zeros(8), torch.ones(8)])[None])[0]
    assert two[:, -1, MARGIN].tolist() == [0, 0, 0]
    assert two[:, 0, MARGIN].tolist() == pytest.approx([0.0, 0.45, 0.7])


def test_a_table_is_bars_from_the_middle() -> None:
    picture_HW = as_pictures(torch.tensor([[1.0, 0.0]]))[0, 0]
    assert picture_HW.shape == (HEIGHT, 2 * BAR + 2 * MARGIN)
    picture_HW = picture_HW[:, MARGIN:-MARGIN]
    upper, lower = picture_HW[:, 0] == 0, picture_HW[:, BAR] == 0
    assert upper.nonzero().flatten().tolist() == list(range(32))
    assert lower.nonzero().flatten().tolist() == list(range(32, 64))
    assert (picture_HW[:, BAR - 1] == 1).all()  # the gap
