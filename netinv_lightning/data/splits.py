"""Select images: seeded and stratified, or by class.

Shape suffixes: n images, m those of the chosen classes, r the rest, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def stratified_indices(labels_n: Tensor, size: int, seed: int) -> Tensor:
    """Choose `size` of n images so that each class keeps its share, to within one image.

    Args:
        labels_n: Labels, int64 [n].
        size: How many to choose, 0 to n.
        seed: The same seed gives the same choice.

    Returns:
        Sorted indices into the n images, int64 [size].
    """
    if not 0 <= size <= len(labels_n):
        raise ValueError(f"cannot choose {size} of {len(labels_n)} images")
    generator = torch.Generator().manual_seed(seed)
    counts = torch.bincount(labels_n)
    shares = counts * (size / max(len(labels_n), 1))
    quotas = shares.floor().long()
    # The places lost by rounding down go to the classes that lost most.
    order = torch.argsort(shares - quotas, descending=True, stable=True)
    quotas[order[: size - int(quotas.sum())]] += 1
    chosen = [torch.empty(0, dtype=torch.int64)]
    for label, quota in enumerate(quotas.tolist()):
        members = (labels_n == label).nonzero().flatten()
        chosen.append(members[torch.randperm(len(members), generator=generator)[:quota]])
    return torch.cat(chosen).sort().values


def split_by_class(
    split: tuple[Tensor, Tensor], classes: Sequence[int]
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Separate the images of `classes` from the others.

    Args:
        split: Images [n, C, H, W] and labels, int64 [n].
        classes: k different labels.

    Returns:
        Images [m, C, H, W] of these classes, with labels [m] from 0 to k-1 in the order of
        `classes`, and the other images [r, C, H, W] with the labels [r] that they had. Both keep
        the order of the images.
    """
    images_nCHW, labels_n = split
    label_n = torch.full_like(labels_n, -1)
    for new, old in enumerate(classes):
        label_n[labels_n == old] = new
    chosen_n = label_n >= 0
    return (images_nCHW[chosen_n], label_n[chosen_n]), (images_nCHW[~chosen_n], labels_n[~chosen_n])
