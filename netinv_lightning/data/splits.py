"""Select images, seeded and stratified or by class, and average the images of each class.

Shape suffixes: n images, m those of the chosen classes, r the rest, k classes that have
items, N classes, D features, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

PART = 1000
"""Images that are summed at once."""


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
    # Rounding down leaves some images to choose: from the classes with the largest remainders.
    order = torch.argsort(shares - quotas, descending=True, stable=True)
    quotas[order[: size - int(quotas.sum())]] += 1
    return choose_per_class(labels_n, quotas.tolist(), generator).sort().values


def choose_per_class(labels_n: Tensor, counts: Sequence[int], source: torch.Generator) -> Tensor:
    """Choose images of each class at random.

    Args:
        labels_n: Labels, int64 [n].
        counts: For each class, how many to choose; all of them if it has fewer.
        source: Source of randomness.

    Returns:
        Indices into the n images, int64, class by class.
    """
    chosen = [torch.empty(0, dtype=torch.int64)]
    for label, count in enumerate(counts):
        members = (labels_n == label).nonzero().flatten()
        chosen.append(members[torch.randperm(len(members), generator=source)[:count]])
    return torch.cat(chosen)


def class_means(values_n: Tensor, labels_n: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of each class that has items, [k, ...], and the k labels in order.

    Args:
        values_n: Images, or features, of any shape after the first dimension; the mean of uint8 is
            that of exact sums, in float32. Images on disk are read a few at a time.
        labels_n: Their labels.
    """
    present_k = labels_n.unique()
    classes = (values_n[labels_n == label] for label in present_k)
    means = [
        values.mean(dim=0) if values.is_floating_point() else _exact_mean(values)
        for values in classes
    ]
    return torch.stack(means), present_k


def _exact_mean(values_n: Tensor) -> Tensor:
    """Return the mean over the first dimension of integers, in float32."""
    sums = torch.zeros(values_n.shape[1:], dtype=torch.int64)
    for part_k in values_n.split(PART):
        sums += part_k.sum(dim=0, dtype=torch.int64)
    return (sums.double() / len(values_n)).float()


def class_sums(values_n: Tensor, labels_n: Tensor, num_classes: int) -> Tensor:
    """Return the sum of each class, [N, ...]; 0 for a class without items."""
    sums_N = values_n.new_zeros(num_classes, *values_n.shape[1:])
    return sums_N.index_add_(0, labels_n, values_n)


def split_by_class(
    split: tuple[Tensor, Tensor], classes: Sequence[int]
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Separate the images of `classes` from the others.

    Args:
        split: Images [n, C, H, W] and labels, int64 [n].
        classes: k different labels.

    Returns:
        Images [m, C, H, W] of these classes, with labels [m] from 0 to k-1 in the order of
        `classes`, and the other images [r, C, H, W] with their original labels [r]. Both keep the
        order of the images.
    """
    images_nCHW, labels_n = split
    label_n = torch.full_like(labels_n, -1)
    for new, old in enumerate(classes):
        label_n[labels_n == old] = new
    chosen_n = label_n >= 0
    return (images_nCHW[chosen_n], label_n[chosen_n]), (images_nCHW[~chosen_n], labels_n[~chosen_n])
