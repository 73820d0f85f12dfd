"""Points on a classifier's decision boundary, found between inverted samples, and the hyperplanes tangent to it there.

After Saad & Wunsch, "Neural network explanation using inversion" (HYPINV, Neural Networks 20(1), 2007): a network is
explained by the hyperplanes that its boundary looks like from near (A11). It works in whatever space a differentiable
`logits_of` starts from: the flattened pixels with the whole classifier, which is the space of Saad & Wunsch's inputs, or
the features with the head. A linear head has one hyperplane for every two classes; a deep network has another one at
almost every point.

Shape suffixes: n samples, h hyperplanes, k some of them, X coordinates of a sample (features or pixels), N classes, B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import permutations

import torch
from torch import Tensor

from netinv_lightning.errors import InputError

BATCH = 100  # as in `measurement`: the activations of larger batches leave a CPU's caches
HALVINGS = 40
"""Most halvings of a segment; float32 resolves no more."""
MOST_PAIRS = 2000
"""Of samples, so that classifiers of many classes can be explained too."""
REST = -1
"""Stands for all other classes together where a hyperplane's outside is told."""


@dataclass(frozen=True)
class Hyperplanes:
    """Hyperplanes tangent to the decision boundary, each of one class (inside) against another (outside).

    Attributes:
        normal_hX: Unit normals, towards the inside.
        offset_h: The hyperplane is where `normal @ x == offset`.
        inside_h: Class on the side that the normal points to.
        outside_h: Class on the other side; `REST` for all others together.
        point_hX: The point of the boundary where each one touches it.
    """

    normal_hX: Tensor
    offset_h: Tensor
    inside_h: Tensor
    outside_h: Tensor
    point_hX: Tensor

    def __len__(self) -> int:
        return len(self.offset_h)

    def distances(self, samples_nX: Tensor) -> Tensor:
        """Signed distances [n, h] of samples from the hyperplanes, in the units of X; above 0 on the inside."""
        return torch.addmm(-self.offset_h, samples_nX, self.normal_hX.T)

    def take(self, index_k: Tensor) -> Hyperplanes:
        """Those of these indices, in this order."""
        return Hyperplanes(
            self.normal_hX[index_k],
            self.offset_h[index_k],
            self.inside_h[index_k],
            self.outside_h[index_k],
            self.point_hX[index_k],
        )


def joined(parts: Sequence[Hyperplanes]) -> Hyperplanes:
    """All hyperplanes of several sets, one set after another."""
    return Hyperplanes(
        *(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Hyperplanes))
    )


def classes_among(class_n: Tensor) -> list[int]:
    """The classes that there are samples of, in their order.

    Raises:
        InputError: if there are fewer than two.
    """
    classes: list[int] = class_n.unique().tolist()
    if len(classes) < 2:
        raise InputError(
            f"interpret: needs two classes or more among the samples, but the classifier takes all {len(class_n)} for "
            f"{'class ' + str(classes[0]) if classes else 'none'}; give it samples of more classes"
        )
    return classes


def pairs_across(class_n: Tensor, per_pair: int = 10, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pairs of samples of different classes, drawn at random: `per_pair` from each class to each other one.

    Args:
        class_n: The classifier's own classes of the samples.
        per_pair: Pairs of samples for each ordered pair of classes; fewer where that makes more than `MOST_PAIRS` in all, and
            where there are more pairs of classes than that, none for some. A sample may stand in several.
        seed: Of the choice.

    Returns:
        Indices of the samples at the start and at the end of each pair.

    Raises:
        InputError: if the samples are of fewer than two classes.
    """
    source = torch.Generator().manual_seed(seed)
    members = {label: (class_n == label).nonzero()[:, 0] for label in classes_among(class_n)}
    ordered = list(permutations(members, 2))
    per_pair = min(per_pair, max(MOST_PAIRS // len(ordered), 1))
    chosen = sorted(torch.randperm(len(ordered), generator=source)[:MOST_PAIRS].tolist())

    def draw(label: int) -> Tensor:
        return members[label][torch.randint(len(members[label]), (per_pair,), generator=source)]

    pairs = [(draw(start), draw(end)) for start, end in (ordered[index] for index in chosen)]
    return torch.cat([start for start, _ in pairs]), torch.cat([end for _, end in pairs])


def boundary_points(
    logits_of: Callable[[Tensor], Tensor],
    from_nX: Tensor,
    to_nX: Tensor,
    against_rest: bool = False,
    tolerance: float = 1e-2,
) -> Hyperplanes:
    """Tangents to the boundary of the class of each `from` sample, on the segment to its `to` sample.

    The segment is halved until the logit of a, the class at its start, leads the greatest other one by less than `tolerance`.
    That other class is the outside: b, the class at the end, or a third one where the segment leaves a for that. Of a segment
    that leaves a more than once, one of the crossings is found. The normal is the gradient of the lead, logit_a - logit_b. One
    Newton step along it takes the point the rest of the way to the boundary, exactly where logits are linear; but at a corner,
    where three classes meet, the third may then lead by less than `tolerance`.

    Args:
        logits_of: From samples [B, X] to logits [B, N]; differentiable, each sample's logits from that sample alone.
        from_nX: Samples at the start.
        to_nX: As many samples at the end, which the classifier takes for other classes.
        against_rest: Takes for the boundary of a where its probability (softmax) is one half, so that its lead is that over all
            other classes together. These hyperplanes part a from all others at once, but do not tell from which.
        tolerance: Of the lead.

    Returns:
        A hyperplane for each pair, in their order. There is none for a pair of one class, one that starts where a does not
        lead (against the rest), or a point where the gradient is zero.
    """
    lead = _lead_over_rest if against_rest else _lead_over_next
    batches = zip(from_nX.split(BATCH), to_nX.split(BATCH), strict=True)
    return joined(
        [_tangents(logits_of, lead, start_BX, end_BX, tolerance) for start_BX, end_BX in batches]
    )


Lead = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _lead_over_next(logits_BN: Tensor, class_B: Tensor) -> tuple[Tensor, Tensor]:
    """By how much a class's logit exceeds the greatest other one [B], and whose that is [B]."""
    own_B1 = class_B[:, None]
    other_B, outside_B = logits_BN.scatter(1, own_B1, -torch.inf).max(dim=1)
    return logits_BN.gather(1, own_B1)[:, 0] - other_B, outside_B


def _lead_over_rest(logits_BN: Tensor, class_B: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithm of a class's odds against all others, p / (1 - p) [B], and `REST` [B]."""
    own_B1 = class_B[:, None]
    others_B = logits_BN.scatter(1, own_B1, -torch.inf).logsumexp(dim=1)
    return logits_BN.gather(1, own_B1)[:, 0] - others_B, torch.full_like(class_B, REST)


def _tangents(
    logits_of: Callable[[Tensor], Tensor],
    lead: Lead,
    from_BX: Tensor,
    to_BX: Tensor,
    tolerance: float,
) -> Hyperplanes:
    with torch.no_grad():
        from_BN = logits_of(from_BX)
        inside_B = from_BN.argmax(dim=1)
        crosses_B = (lead(from_BN, inside_B)[0] > 0) & (lead(logits_of(to_BX), inside_B)[0] < 0)
        from_BX, to_BX, inside_B = from_BX[crosses_B], to_BX[crosses_B], inside_B[crosses_B]
        crossing_BX = _crossings(
            lambda x_kX, class_k: lead(logits_of(x_kX), class_k)[0],
            from_BX,
            to_BX,
            inside_B,
            tolerance,
        )
    with torch.enable_grad():
        lead_B, outside_B = lead(logits_of(crossing_BX.requires_grad_()), inside_B)
        (gradient_BX,) = torch.autograd.grad(lead_B.sum(), crossing_BX)
    norm_B1 = gradient_BX.norm(dim=1, keepdim=True)
    normal_BX = gradient_BX / norm_B1
    point_BX = crossing_BX.detach() - normal_BX * lead_B.detach()[:, None] / norm_B1
    tangents = Hyperplanes(
        normal_BX, (normal_BX * point_BX).sum(dim=1), inside_B, outside_B, point_BX
    )
    return tangents.take((norm_B1[:, 0] > 0).nonzero()[:, 0])


def _crossings(
    lead_of: Callable[[Tensor, Tensor], Tensor],
    from_BX: Tensor,
    to_BX: Tensor,
    inside_B: Tensor,
    tolerance: float,
) -> Tensor:
    """The point [B, X] on each segment where its class ceases to lead, all segments halved together."""
    near_BX, far_BX = from_BX.clone(), to_BX.clone()
    open_k = torch.arange(len(inside_B))  # those not yet within the tolerance
    for _ in range(HALVINGS):
        if not len(open_k):
            break
        middle_kX = torch.lerp(near_BX[open_k], far_BX[open_k], 0.5)
        lead_k = lead_of(middle_kX, inside_B[open_k])
        leads_k, close_k = lead_k > 0, lead_k.abs() < tolerance
        near_BX[open_k[leads_k | close_k]] = middle_kX[leads_k | close_k]
        far_BX[open_k[~leads_k | close_k]] = middle_kX[~leads_k | close_k]
        open_k = open_k[~close_k]
    return torch.lerp(near_BX, far_BX, 0.5)
