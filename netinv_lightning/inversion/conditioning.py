"""Class conditioning of the generator without revealing the label.

Suhail, Tang and Sethi (2024, arXiv 2411.17777, section 3.2).

The conditioning vector is the softmax of a normal draw. Its argmax is the label, which the
generator does not get. A matrix that encodes the same label is concatenated to the S x S feature
maps between the two stages of the generator.

Shape suffixes: B batch, N classes, K chosen classes, M channels and S side of the conditioning
matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.config.shapes import sides_of
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.class_map import MATRICES, Code, Subset, hot_cross
from netinv_lightning.inversion.temperature import default_temperature
from netinv_lightning.training.distributed import Stream

MODES = ("label", "vector", "matrix", "vector_matrix")


@dataclass(frozen=True)
class Condition:
    """The conditions of one batch.

    Attributes:
        label_B: The requested class, int64.
        target_BN: The distribution P that the classifier's output should match: the vector if the
            generator gets one, else one-hot.
        vector_BN: The conditioning vector, or None; [B, K] if K classes are chosen.
        matrix_BMSS: The conditioning matrix, or None. M is 1 unless there are more classes than
            cells. For signals the last side is 1; for tables both sides are 1.
        place_B: The position of the class among the chosen ones; None if all are.
    """

    label_B: Tensor
    target_BN: Tensor
    vector_BN: Tensor | None
    matrix_BMSS: Tensor | None
    place_B: Tensor | None = field(default=None, kw_only=True)


class Conditioning:
    """Draws the conditions of a batch of images.

    Args:
        num_classes: N.
        image_size: Side of square images in pixels; else the sides, (H, W), (L,) or (). The matrix
            is never larger.
        mode: `label`, `vector`, `matrix` or `vector_matrix`.
        vectors: `soft` (softmax of a normal vector) or `hot` (one-hot).
        temperature: The vector is softmax(n / temperature) with n ~ N(0, 1)^N. A low temperature
            makes the largest entry larger. None for one that fits N (`temperature.py`).
        matrix: Encoder of the matrix, a name in `MATRICES`.
        classes: Condition on these classes only, K of them; None for all. Vectors and matrix then
            have K instead of N classes, in this order.

    Raises:
        ValueError: if a value is not allowed. The message starts with `<argument>=<value>:`.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int | Sequence[int],
        mode: str = "vector_matrix",
        vectors: str = "soft",
        temperature: float | None = None,
        matrix: str = "hot_cross",
        classes: Sequence[int] | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode={mode}: choose from {', '.join(MODES)}")
        if vectors not in ("soft", "hot"):
            raise ValueError(f"vectors={vectors}: choose soft or hot")
        if temperature is not None and not temperature > 0:
            raise ValueError(f"temperature={temperature}: must be above 0")
        if matrix not in MATRICES:
            raise ValueError(f"matrix={matrix}: choose from {', '.join(MATRICES)}")
        self.num_classes, self.mode, self.vectors = num_classes, mode, vectors
        self.chosen = list(range(num_classes) if classes is None else classes)
        self.temperature = temperature or default_temperature(len(self.chosen))
        self.subset = None if classes is None else Subset(self.chosen, num_classes)
        self.code = Code(len(self.chosen), sides_of(image_size))
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

    @property
    def matrix_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of the matrix."""
        return self.code.channels, *self.code.sides

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
        normal_BK = self._draw_normal(batch, device, stream)
        return self._of_chosen((normal_BK / self.temperature).softmax(dim=1), hot)

    def _draw_normal(self, batch: int, device: torch.device | str, stream: Stream | None) -> Tensor:
        """Return a standard normal draw for each chosen class, [B, K]."""
        K = len(self.chosen)
        return torch.randn(batch, K, device=device) if stream is None else stream.normal(batch, K)

    def of_labels(self, label_B: Tensor) -> Condition:
        """Return conditions for given labels, with one-hot vectors."""
        return self.of_vectors(F.one_hot(label_B, self.num_classes).float())

    def of_vectors(self, vector_BN: Tensor, hot: bool | None = None) -> Condition:
        """Return conditions for given vectors over all classes, whose argmax is the label.

        Entries of classes that are not chosen are ignored.

        Raises:
            InputError: if a vector has no chosen class.
        """
        if self.subset is None:
            return self._of_chosen(vector_BN, hot)
        vector_BK = vector_BN.index_select(1, self.subset.to(vector_BN.device).class_K)
        total_B1 = vector_BK.sum(dim=1, keepdim=True)
        if not bool((total_B1 > 0).all()):
            raise InputError(
                f"labels={vector_BN[(total_B1 <= 0)[:, 0]].argmax(dim=1).tolist()}: are not among "
                "application.classes, the classes that were inverted"
            )
        return self._of_chosen(vector_BK / total_B1, hot)

    def _of_chosen(self, vector_BK: Tensor, hot: bool | None) -> Condition:
        """Return conditions for vectors over the chosen classes."""
        place_B = vector_BK.argmax(dim=1)
        hot_BK = F.one_hot(place_B, len(self.chosen)).to(vector_BK)
        if hot if hot is not None else self.vectors == "hot":
            vector_BK = hot_BK
        # With `matrix` conditioning P is the vector if the matrix encodes more than the label.
        shows_vector = self.uses_vector or (self.uses_matrix and self.encode is not hot_cross)
        label_B, target_BN = place_B, vector_BK if shows_vector else hot_BK
        if self.subset is not None:
            label_B, target_BN = self.subset.to(place_B.device).among_all(place_B, target_BN)
        return Condition(
            label_B=label_B,
            target_BN=target_BN,
            vector_BN=vector_BK if self.uses_vector else None,
            matrix_BMSS=self.code.enlarge(self.encode(vector_BK, self.code.to(vector_BK.device)))
            if self.uses_matrix
            else None,
            place_B=None if self.subset is None else place_B,
        )
