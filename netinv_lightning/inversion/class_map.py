"""Maps that encode a class by its position: the conditioning matrix, for every shape of inputs.

Shape suffixes: B batch, N classes, K chosen classes, M channels of the map, G side of its grid of
classes, S its side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

SMALLEST_SIDE = 4  # a smaller map is too small to start the up-sampling from
PAPERS_SIDE = 64
"""Largest side of images whose map may have one row per class, like that of the papers' images."""
ROWS_OF_LARGE_IMAGES = 16
"""Largest number of classes that get one row each on the map of larger images."""


class Subset:
    """The subset of classes that the generator is conditioned on.

    Args:
        classes: K different classes.
        num_classes: N.
    """

    def __init__(self, classes: Sequence[int], num_classes: int) -> None:
        self.class_K, self.num_classes = torch.tensor(classes), num_classes

    def to(self, device: torch.device) -> Subset:
        """Move the classes to `device` once."""
        if self.class_K.device != device:
            self.class_K = self.class_K.to(device)
        return self

    def among_all(self, place_B: Tensor, vector_BK: Tensor) -> tuple[Tensor, Tensor]:
        """Return labels [B] and vectors [B, N] for places among the chosen classes."""
        target_BN = vector_BK.new_zeros(len(vector_BK), self.num_classes)
        return self.class_K[place_B], target_BN.index_copy(1, self.class_K, vector_BK)


class Code:
    """The position of each class on the map: a channel, a row and a column.

    Images: for 4 <= N <= `largest` the map is the papers' N x N, and class k is at row k, column k.
    With fewer classes each one has several rows, so that the map has 4 or more. With more classes
    than `largest` (the smaller side; at most 16 for images of more than 64 pixels), classes share
    rows: with S = ceil(sqrt(N)), class k is at row k // S, column k % S, so that every class has
    its own position. If even these are too few, the map has M channels, among which the classes are
    divided.

    Signals: the map has a cell per class along the length; M channels if there are more classes.
    Tables have no positions: the map has N channels of one cell.

    Args:
        num_classes: N.
        sides: Sides of the inputs: (H, W), (L,) or ().
    """

    def __init__(self, num_classes: int, sides: Sequence[int]) -> None:
        self.num_classes, self.crosses = num_classes, len(sides) == 2
        largest = min(sides, default=1)
        self.channels = -(-num_classes // largest ** max(1, len(sides)))
        if self.crosses and max(sides) > PAPERS_SIDE:
            largest = min(largest, ROWS_OF_LARGE_IMAGES)
        of_channel = -(-num_classes // self.channels)
        self.blocked = self.crosses and num_classes > largest
        self.grid = math.isqrt(of_channel - 1) + 1 if self.blocked else of_channel
        self.repeat = 1 if self.blocked or not sides else math.ceil(SMALLEST_SIDE / of_channel)
        self.side = self.grid * self.repeat
        label_N = torch.arange(num_classes)
        self.channel_N, place_N = label_N // of_channel, label_N % of_channel
        self.row_N = place_N // self.grid if self.blocked else place_N
        self.column_N = place_N % self.grid if self.crosses else torch.zeros_like(place_N)

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns of the map: (S, S) for images, (S, 1) for signals and tables."""
        return self.side, self.side if self.crosses else 1

    def to(self, device: torch.device) -> Code:
        """Move the tables to `device` once, so that training steps copy nothing to the device."""
        if self.row_N.device != device:
            self.channel_N = self.channel_N.to(device)
            self.row_N, self.column_N = self.row_N.to(device), self.column_N.to(device)
        return self

    def enlarge(self, matrices_BMGG: Tensor) -> Tensor:
        """Repeat each cell so that the map has side S."""
        tall_BMSG = matrices_BMGG.repeat_interleave(self.repeat, dim=-2)
        return tall_BMSG.repeat_interleave(self.repeat, dim=-1) if self.crosses else tall_BMSG

    def lay_out(self, vector_BN: Tensor) -> Tensor:
        """Write each entry of the vectors into the cell of its class, [B, M, G, G]."""
        columns = self.grid if self.crosses else 1
        matrix_BMGG = vector_BN.new_zeros(len(vector_BN), self.channels, self.grid, columns)
        matrix_BMGG[:, self.channel_N, self.row_N, self.column_N] = vector_BN
        return matrix_BMGG

    def cross(self, label_B: Tensor) -> Tensor:
        """Return bool maps [B, M, G, G] that are true in the row and the column of the label.

        For signals and tables, which have no columns, only the cell of the label is true.
        """
        grid_G = torch.arange(self.grid, device=label_B.device)
        channel_M = torch.arange(self.channels, device=label_B.device)
        in_row_BG1 = (grid_G == self.row_N[label_B][:, None])[:, :, None]
        in_channel_BM = channel_M == self.channel_N[label_B][:, None]
        in_column_B1G = (grid_G == self.column_N[label_B][:, None])[:, None, :]
        hit_BGG = in_row_BG1 | in_column_B1G if self.crosses else in_row_BG1
        return in_channel_BM[:, :, None, None] & hit_BGG[:, None]


def hot_cross(vector_BN: Tensor, code: Code) -> Tensor:
    """Set row and column of the label to 1 and all other cells to 0 (the papers' hot matrix)."""
    return code.cross(vector_BN.argmax(dim=1)).to(vector_BN)


def diagonal(vector_BN: Tensor, code: Code) -> Tensor:
    """Put the vector on the diagonal, scaled so that its largest entry is 1.

    If classes share rows, and for signals and tables, each entry is in the cell of its class.
    """
    return code.lay_out(vector_BN / vector_BN.amax(dim=1, keepdim=True))


def outer_product(vector_BN: Tensor, code: Code) -> Tensor:
    """Return c c^T, scaled so that its largest entry is 1.

    If classes share rows, and for signals and tables, N x N does not fit; the squares c_k^2 are
    used, each in the cell of its class.
    """
    matrix_BMGG = (
        (vector_BN[:, :, None] * vector_BN[:, None, :])[:, None]
        if code.crosses and not code.blocked
        else code.lay_out(vector_BN.square())
    )
    return matrix_BMGG / matrix_BMGG.amax(dim=(1, 2, 3), keepdim=True)


MATRICES: dict[str, Callable[[Tensor, Code], Tensor]] = {
    "hot_cross": hot_cross,
    "diagonal": diagonal,
    "outer_product": outer_product,
}
"""Matrix encoders by name: from conditioning vectors [B, N] to maps [B, M, G, G]."""
