"""Class conditioning of the generator without revealing the label (arXiv:2407.18002, section 3.2).

The conditioning vector is the softmax of a normal draw. Its argmax is the label, which the
generator does not get. A matrix that encodes the same label is concatenated half-way, at S x S.

Shape suffixes: B batch, N classes, S side of the conditioning matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.training.distributed import Stream

MODES = ("label", "vector", "matrix", "vector_matrix")
SMALLEST_SIDE = 4  # a smaller map is too small to start the up-sampling from


@dataclass(frozen=True)
class Condition:
    """The conditions of one batch.

    Attributes:
        label_B: The requested class, int64.
        target_BN: The distribution P that the classifier's output should match: the vector if the
            generator gets one, else one-hot.
        vector_BN: The conditioning vector, or None.
        matrix_B1SS: The conditioning matrix, or None.
    """

    label_B: Tensor
    target_BN: Tensor
    vector_BN: Tensor | None
    matrix_B1SS: Tensor | None


class Code:
    """The position of each class on the S x S map: a row and a column.

    For 4 <= N <= `largest` the map is the papers' N x N, and class k is at row k, column k. With
    fewer classes each one has several rows, so that the map has 4 or more. With more classes than
    `largest`, classes share rows: with S = ceil(sqrt(N)), class k is at row k // S, column k % S,
    so that every class has its own position.
    """

    def __init__(self, num_classes: int, largest: int) -> None:
        self.num_classes = num_classes
        self.blocked = num_classes > largest
        self.repeat = 1 if self.blocked else math.ceil(SMALLEST_SIDE / num_classes)
        self.grid = math.isqrt(num_classes - 1) + 1 if self.blocked else num_classes
        self.side = self.grid * self.repeat
        labels, grid = torch.arange(num_classes), torch.arange(self.grid)
        self.row_N = labels // self.grid if self.blocked else labels
        self.column_N = labels % self.grid if self.blocked else labels
        self.cross_NGG = (grid[:, None] == self.row_N[:, None, None]) | (
            grid[None, :] == self.column_N[:, None, None]
        )

    def to(self, device: torch.device) -> Code:
        """Move the tables to `device` once, so that training steps copy nothing to the device."""
        if self.row_N.device != device:
            self.row_N, self.column_N, self.cross_NGG = (
                self.row_N.to(device),
                self.column_N.to(device),
                self.cross_NGG.to(device),
            )
        return self

    def enlarge(self, matrices_BGG: Tensor) -> Tensor:
        """Repeat each cell so that the map has side S."""
        return matrices_BGG.repeat_interleave(self.repeat, dim=-1).repeat_interleave(
            self.repeat, dim=-2
        )

    def lay_out(self, vector_BN: Tensor) -> Tensor:
        """Write each entry of the vectors into the cell of its class, [B, G, G]."""
        matrix_BGG = vector_BN.new_zeros(len(vector_BN), self.grid, self.grid)
        matrix_BGG[:, self.row_N, self.column_N] = vector_BN
        return matrix_BGG


def hot_cross(vector_BN: Tensor, code: Code) -> Tensor:
    """Set row and column of the label to 1 and all other cells to 0 (the papers' hot matrix)."""
    return code.cross_NGG[vector_BN.argmax(dim=1)].to(vector_BN)


def diagonal(vector_BN: Tensor, code: Code) -> Tensor:
    """Put the vector on the diagonal, scaled so that its largest entry is 1.

    If classes share rows, each entry is in the cell of its class.
    """
    return code.lay_out(vector_BN / vector_BN.amax(dim=1, keepdim=True))


def outer_product(vector_BN: Tensor, code: Code) -> Tensor:
    """Return c c^T, scaled so that its largest entry is 1.

    If classes share rows, N x N does not fit; the squares c_k^2 are used, each in the cell of its
    class.
    """
    matrix_BGG = (
        code.lay_out(vector_BN.square())
        if code.blocked
        else vector_BN[:, :, None] * vector_BN[:, None, :]
    )
    return matrix_BGG / matrix_BGG.amax(dim=(1, 2), keepdim=True)


MATRICES: dict[str, Callable[[Tensor, Code], Tensor]] = {
    "hot_cross": hot_cross,
    "diagonal": diagonal,
    "outer_product": outer_product,
}
"""Matrix encoders by name: from conditioning vectors [B, N] to maps [B, G, G]."""


class Conditioning:
    """Draws the conditions of a batch of images.

    Args:
        num_classes: N.
        image_size: Side of the images in pixels; the matrix is never larger.
        mode: `label`, `vector`, `matrix` or `vector_matrix`.
        vectors: `soft` (softmax of a normal vector) or `hot` (one-hot).
        temperature: The vector is softmax(n / temperature) with n ~ N(0, 1)^N. A low temperature
            makes the largest entry larger.
        matrix: Encoder of the matrix, a name in `MATRICES`.

    Raises:
        ValueError: if a value is not allowed; it starts with `<argument>=<value>:`.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        mode: str = "vector_matrix",
        vectors: str = "soft",
        temperature: float = 1.0,
        matrix: str = "hot_cross",
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode={mode}: choose from {', '.join(MODES)}")
        if vectors not in ("soft", "hot"):
            raise ValueError(f"vectors={vectors}: choose soft or hot")
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: must be above 0")
        if matrix not in MATRICES:
            raise ValueError(f"matrix={matrix}: choose from {', '.join(MATRICES)}")
        if num_classes > image_size**2:
            raise ValueError(
                f"num_classes={num_classes}: must be {image_size**2} or less, so that a matrix of "
                f"{image_size} x {image_size} cells has one per class"
            )
        self.num_classes, self.mode, self.vectors, self.temperature = (
            num_classes,
            mode,
            vectors,
            temperature,
        )
        self.code = Code(num_classes, largest=image_size)
        self.encode = MATRICES[matrix]

    @property
    def uses_label(self) -> bool:
        return self.mode == "label"

    @property
    def uses_vector(self) -> bool:
        return self.mode in ("vector", "vector_matrix")

    @property
    def uses_matrix(self) -> bool:
        return self.mode in ("matrix", "vector_matrix")

    @property
    def side(self) -> int:
        """S."""
        return self.code.side

    def sample(
        self,
        batch: int,
        device: torch.device | str = "cpu",
        stream: Stream | None = None,
        hot: bool | None = None,
    ) -> Condition:
        """Draw conditions with labels uniform over the classes.

        Args:
            batch: B.
            device: The device of the tensors.
            stream: Random numbers, on `device`; None for torch's global random state.
            hot: One-hot vectors instead of soft ones; None for `vectors`.
        """
        N = self.num_classes
        normal_BN = (
            torch.randn(batch, N, device=device) if stream is None else stream.normal(batch, N)
        )
        return self.of_vectors((normal_BN / self.temperature).softmax(dim=1), hot)

    def of_labels(self, label_B: Tensor) -> Condition:
        """Return conditions for given labels, with one-hot vectors."""
        return self.of_vectors(F.one_hot(label_B, self.num_classes).float())

    def of_vectors(self, vector_BN: Tensor, hot: bool | None = None) -> Condition:
        """Return conditions for given vectors, whose argmax is the label."""
        label_B = vector_BN.argmax(dim=1)
        hot_BN = F.one_hot(label_B, self.num_classes).to(vector_BN)
        if hot if hot is not None else self.vectors == "hot":
            vector_BN = hot_BN
        # With `matrix` conditioning P is the vector if the matrix encodes more than the label.
        shows_vector = self.uses_vector or (self.uses_matrix and self.encode is not hot_cross)
        return Condition(
            label_B=label_B,
            target_BN=vector_BN if shows_vector else hot_BN,
            vector_BN=vector_BN if self.uses_vector else None,
            matrix_B1SS=self.code.enlarge(self.encode(vector_BN, self.code.to(vector_BN.device)))[
                :, None
            ]
            if self.uses_matrix
            else None,
        )
