"""Cosine and orthogonality terms in three forms: ours, all pairs, and one Gram matrix.

Shape suffixes: B batch, D features.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.bench.timing import ROUNDS, ratio, report, spread
from netinv_lightning.inversion import losses


def naive_batch_terms(f_BD: Tensor) -> Tensor:
    """Return both terms as the equations define them, over all pairs of images."""
    B = len(f_BD)
    cosines_BB = F.cosine_similarity(f_BD[:, None], f_BD[None], dim=2)
    cosine = (cosines_BB.sum() - cosines_BB.diagonal().sum()) / (B * (B - 1))
    unit_BD = F.normalize(f_BD, dim=1)
    return cosine + ((unit_BD @ unit_BD.T - torch.eye(B)) ** 2).mean()


def gram_batch_terms(f_BD: Tensor) -> Tensor:
    """Return both terms from one B x B Gram matrix, as in a direct but efficient implementation."""
    B = len(f_BD)
    unit_BD = F.normalize(f_BD, dim=1)
    gram_BB = unit_BD @ unit_BD.T
    return (gram_BB.sum() - gram_BB.diagonal().sum()) / (B * (B - 1)) + (
        (gram_BB - torch.eye(B)) ** 2
    ).mean()


def our_batch_terms(f_BD: Tensor) -> Tensor:
    return losses.cosine_similarity(f_BD) + losses.orthogonality(f_BD)


def backward_of(terms: Callable[[Tensor], Tensor], f_BD: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(terms(f_BD), f_BD)


def saved_bytes(terms: Callable[[Tensor], Tensor], f_BD: Tensor) -> int:
    """Return the number of bytes stored for the backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        terms(f_BD)
    return sum(kept.values())


def compare_terms() -> None:
    """Compare our form of both terms and its gradient with the other two forms."""
    f_BD = torch.randn(2048, 128, requires_grad=True)
    torch.testing.assert_close(our_batch_terms(f_BD), naive_batch_terms(f_BD), rtol=1e-4, atol=1e-6)
    ours = backward_of(our_batch_terms, f_BD)
    for name, other in (("pairwise", naive_batch_terms), ("Gram", gram_batch_terms)):
        rounds = 1 if name == "pairwise" else ROUNDS
        report(
            f"cosine + orthogonality, B=2048 d=128: naive {name} / ours",
            spread(ratio(ours, backward_of(other, f_BD), rounds), digits=1),
            "goal >= 8",
        )
        report(
            f"  bytes kept for backward: naive {name} / ours",
            f"{saved_bytes(other, f_BD) / saved_bytes(our_batch_terms, f_BD):.1f}",
        )
