"""Conditioning on sets of labels, for multi-label networks.

Shape suffixes: B batch, N labels, M channels of the conditioning matrix, S its side, G side of its
grid of labels, P cells of the grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Normal

from netinv_lightning.errors import InputError
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.training.distributed import Stream

MOST_OFTEN = 0.3
"""Largest probability that a label is added to a set."""


def sets_agree(logits_BN: Tensor, target_BN: Tensor) -> Tensor:
    """Return whether a network assigns exactly the labels of its set to each image, [B]."""
    return ((logits_BN > 0) == (target_BN > 0.5)).all(dim=1)


class LabelSets(Conditioning):
    """Draws sets of labels: a first label, uniform, and others that are added independently.

    A label is added with probability 1 / (N - 1), at most 0.3, so that a set has about two labels.
    The vector is the set itself, 0 or 1 per label; the matrix has the row and column of each label.
    `Condition.label_B` is the first label, `Condition.target_BN` the set.

    The arguments are those of `Conditioning`; `vectors`, `temperature` and `matrix` have no effect.

    Raises:
        InputError: for `mode=label`, which encodes a single label.
    """

    def __init__(self, *args: object, **keywords: object) -> None:
        super().__init__(*args, **keywords)  # type: ignore[arg-type]
        if self.uses_label:
            raise InputError(
                "conditioning=label: encodes one label, but this network is multi-label; choose "
                "vector, matrix or vector_matrix"
            )
        added = min(MOST_OFTEN, 1 / (self.num_classes - 1))
        self.cross_NMGG = self.code.cross(torch.arange(self.num_classes)).float()
        self.threshold = float(Normal(0.0, 1.0).icdf(torch.tensor(1 - added)))

    def sample(
        self,
        batch: int,
        device: torch.device | str = "cpu",
        stream: Stream | None = None,
        hot: bool | None = None,
    ) -> Condition:
        """Draw sets; with `hot` they have one label each."""
        normal_BN = self._draw_normal(batch, device, stream)
        label_B = normal_BN.argmax(dim=1)
        if hot:
            return self.of_labels(label_B)
        return self.of_sets(normal_BN > self.threshold, label_B)

    def of_labels(self, label_B: Tensor) -> Condition:
        """Return conditions for sets of one label each."""
        none_BN = torch.zeros(
            len(label_B), self.num_classes, dtype=torch.bool, device=label_B.device
        )
        return self.of_sets(none_BN, label_B)

    def of_sets(self, set_BN: Tensor, label_B: Tensor | None = None) -> Condition:
        """Return conditions for sets of labels.

        Args:
            set_BN: Whether a label is in the set.
            label_B: The first label, which is added; None for the lowest one of the set.
        """
        label_B = set_BN.int().argmax(dim=1) if label_B is None else label_B
        target_BN = set_BN.float().scatter(1, label_B[:, None], 1.0)
        if self.cross_NMGG.device != target_BN.device:  # moved once, not in every step
            self.cross_NMGG = self.cross_NMGG.to(target_BN.device)
        matrix_BP = (target_BN @ self.cross_NMGG.flatten(1)).clamp_max(1)
        return Condition(
            label_B=label_B,
            target_BN=target_BN,
            vector_BN=target_BN if self.uses_vector else None,
            matrix_BMSS=self.code.enlarge(matrix_BP.unflatten(1, self.cross_NMGG.shape[1:]))
            if self.uses_matrix
            else None,
        )


def condition_of(
    conditioning: Conditioning,
    labels: Sequence[int] | Sequence[Sequence[int]] | Tensor,
    device: torch.device,
) -> Condition:
    """Return conditions for labels, or for lists of labels that do not exclude each other."""
    lists = not isinstance(labels, Tensor) and any(isinstance(one, Sequence) for one in labels)
    if not lists:
        return conditioning.of_labels(torch.as_tensor(labels, device=device))
    if not isinstance(conditioning, LabelSets):
        raise InputError("labels: must be one per image; this network's labels exclude each other")
    set_BN = torch.zeros(len(labels), conditioning.num_classes, dtype=torch.bool)
    for row_N, its_labels in zip(set_BN, labels, strict=True):
        row_N[torch.as_tensor(its_labels, dtype=torch.long)] = True
    return conditioning.of_sets(set_BN.to(device))
