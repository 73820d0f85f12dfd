"""How the generator is told, and not told, which class to make (S2 section 3.2; A1-7 to A1-14).

A vector drawn from a normal distribution and soft-maxed conditions the generator; its argmax is the label, which is
never revealed. A matrix that encodes the same label joins half-way, at S x S.

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
SMALLEST_SIDE = 4  # a smaller map has no room for up-sampling to build on


@dataclass(frozen=True)
class Condition:
    """What one batch is conditioned on.

    Attributes:
        label_B: The class asked for, int64.
        target_BN: The distribution P that the classifier's output is to match: what the generator was told, so the
            vector where there is one, one-hot where only the label is.
        vector_BN: The conditioning vector, or None.
        matrix_B1SS: The conditioning matrix, or None.
    """

    label_B: Tensor
    target_BN: Tensor
    vector_BN: Tensor | None
    matrix_B1SS: Tensor | None


class Code:
    """Where each class stands on the S x S map: a row and a column.

    For 4 <= N <= `largest` the map is the papers' N x N, and class k stands at row k, column k. Fewer classes take
    several rows each, until the map has 4 or more. More classes than `largest` share rows: with S = ceil(sqrt(N)),
    class k stands at row k // S, column k % S, so that every class still has a place of its own.
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
        """Moves its tables to `device`, once: nothing crosses to the device in a training step."""
        if self.row_N.device != device:
            self.row_N, self.column_N, self.cross_NGG = (
                self.row_N.to(device),
                self.column_N.to(device),
                self.cross_NGG.to(device),
            )
        return self

    def enlarge(self, matrices_BGG: Tensor) -> Tensor:
        """Repeats each cell so that the map has side S."""
        return matrices_BGG.repeat_interleave(self.repeat, dim=-1).repeat_interleave(
            self.repeat, dim=-2
        )

    def lay_out(self, vector_BN: Tensor) -> Tensor:
        """Writes the vector into the cells of its classes, row by row."""
        matrix_BGG = vector_BN.new_zeros(len(vector_BN), self.grid, self.grid)
        matrix_BGG[:, self.row_N, self.column_N] = vector_BN
        return matrix_BGG


def hot_cross(vector_BN: Tensor, code: Code) -> Tensor:
    """Row and column of the label are 1, all else 0 (the papers' hot matrix)."""
    return code.cross_NGG[vector_BN.argmax(dim=1)].to(vector_BN)


def diagonal(vector_BN: Tensor, code: Code) -> Tensor:
    """The vector on the diagonal (with shared rows: each entry in the cell of its class); its largest entry scaled to 1."""
    return code.lay_out(vector_BN / vector_BN.amax(dim=1, keepdim=True))


def outer_product(vector_BN: Tensor, code: Code) -> Tensor:
    """c c^T, its largest entry scaled to 1. With shared rows N x N does not fit, and its diagonal c_k^2 stands in, each
    entry in the cell of its class.
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
"""Matrix encoders by name (A1-11): from the conditioning vectors [B, N] to [B, G, G]; add your own here."""


class Conditioning:
    """Draws what a batch of images is conditioned on.

    Args:
        num_classes: N.
        image_size: Side of the images in pixels; the matrix is never larger.
        mode: `label`, `vector`, `matrix` or `vector_matrix`.
        vectors: `soft` (softmax of a normal vector) or `hot` (one-hot; A1-12).
        temperature: The vector is softmax(n / temperature) with n ~ N(0, 1)^N: below 1 the largest entry stands out
            more (A1-14).
        matrix: Encoder of the matrix, a name in `MATRICES`.

    Raises:
        ValueError: if a value is none of these; it starts with `<argument>=<value>:`.
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
                f"num_classes={num_classes}: a {image_size} x {image_size} matrix has room for {image_size**2}"
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
        """Draws `batch` conditions on `device`, labels uniform over the classes.

        Args:
            batch: B.
            device: Where the tensors are to live.
            stream: Source of randomness, on `device`; None for torch's global one.
            hot: One-hot vectors instead of soft ones; None for what the run was configured with.
        """
        N = self.num_classes
        normal_BN = (
            torch.randn(batch, N, device=device) if stream is None else stream.normal(batch, N)
        )
        return self.of_vectors((normal_BN / self.temperature).softmax(dim=1), hot)

    def of_labels(self, label_B: Tensor) -> Condition:
        """Conditions on given labels, with hot vectors."""
        return self.of_vectors(F.one_hot(label_B, self.num_classes).float())

    def of_vectors(self, vector_BN: Tensor, hot: bool | None = None) -> Condition:
        """Conditions on given vectors, whose argmax is the label."""
        label_B = vector_BN.argmax(dim=1)
        hot_BN = F.one_hot(label_B, self.num_classes).to(vector_BN)
        if hot if hot is not None else self.vectors == "hot":
            vector_BN = hot_BN
        # A matrix that carries more than the label is all that `matrix` conditioning is told, so P follows it.
        tells_vector = self.uses_vector or (self.uses_matrix and self.encode is not hot_cross)
        return Condition(
            label_B=label_B,
            target_BN=vector_BN if tells_vector else hot_BN,
            vector_BN=vector_BN if self.uses_vector else None,
            matrix_B1SS=self.code.enlarge(self.encode(vector_BN, self.code.to(vector_BN.device)))[
                :, None
            ]
            if self.uses_matrix
            else None,
        )
