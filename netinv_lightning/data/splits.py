"""Seeded, stratified choices of images (A6-10)."""

from __future__ import annotations

import torch
from torch import Tensor


def stratified_indices(labels_n: Tensor, size: int, seed: int) -> Tensor:
    """Chooses `size` of n images so that each class keeps its share, to within one image.

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
