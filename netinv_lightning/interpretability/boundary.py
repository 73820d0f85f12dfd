"""Points on a classifier's decision boundary between inverted samples, and tangent hyperplanes.

After Saad and Wunsch, "Neural network explanation using inversion" (HYPINV, Neural Networks 20(1),
2007): hyperplanes that are tangent to the decision boundary explain a network. The functions work
in the input space of any differentiable `logits_of`: flattened pixels with the whole classifier, as
in the paper, or features with the head. A linear head has one hyperplane for each pair of classes;
the boundary of a deep network has a different tangent at almost every point.

Shape suffixes: n samples, h hyperplanes, k some of them, X coordinates of a sample (features or
pixels), N classes, B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import permutations

import torch
from torch import Tensor

from netinv_lightning.errors import InputError

BATCH = 100  # fastest on a CPU: activations of larger batches do not fit its caches
MAX_BISECTIONS = 40
"""Largest number of bisections of a segment, limited by the precision of float32."""
MAX_PAIRS = 2000
"""Largest number of pairs of samples, which bounds the cost for classifiers of many classes."""
REST = -1
"""Value of `outside_h` for a hyperplane that separates one class from all others together."""


@dataclass(frozen=True)
class Hyperplanes:
    """Hyperplanes tangent to the decision boundary, each with a class on either side.

    Attributes:
        normal_hX: Unit normals, towards the inside.
        offset_h: The hyperplane is the set where `normal @ x == offset`.
        inside_h: Class on the side that the normal points to.
        outside_h: Class on the other side; `REST` for all others together.
        point_hX: Point of the boundary where each hyperplane touches it.
    """

    normal_hX: Tensor
    offset_h: Tensor
    inside_h: Tensor
    outside_h: Tensor
    point_hX: Tensor

    def __len__(self) -> int:
        return len(self.offset_h)

    def distances(self, samples_nX: Tensor) -> Tensor:
        """Return signed distances [n, h] of samples from the hyperplanes, above 0 on the inside."""
        return torch.addmm(-self.offset_h, samples_nX, self.normal_hX.T)

    def select(self, index_k: Tensor) -> Hyperplanes:
        """Return the hyperplanes at the given indices, in this order."""
        return Hyperplanes(
            self.normal_hX[index_k],
            self.offset_h[index_k],
            self.inside_h[index_k],
            self.outside_h[index_k],
            self.point_hX[index_k],
        )


def concatenate(parts: Sequence[Hyperplanes]) -> Hyperplanes:
    """Return all hyperplanes of several sets, in order."""
    return Hyperplanes(
        *(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Hyperplanes))
    )


def present_classes(class_n: Tensor) -> list[int]:
    """Return the classes that occur, in ascending order.

    Raises:
        InputError: if there are fewer than two.
    """
    classes: list[int] = class_n.unique().tolist()
    if len(classes) < 2:
        raise InputError(
            f"interpret: the classifier predicts "
            f"{f'class {classes[0]}' if classes else 'no class'} for all {len(class_n)} samples. "
            "At least two predicted classes are needed. "
            "Study a run whose images are of more classes"
        )
    return classes


def sample_pairs(class_n: Tensor, per_pair: int = 10, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw pairs of samples of different classes: `per_pair` for each ordered pair of classes.

    Args:
        class_n: Predicted classes of the samples.
        per_pair: Pairs of samples for each ordered pair of classes. It is reduced if there would be
            more than `MAX_PAIRS` in total; if there are more ordered pairs of classes than that,
            some get none. A sample may occur in several pairs.
        seed: Seed of the draw.

    Returns:
        Indices of the samples at the start and at the end of each pair.

    Raises:
        InputError: if the samples are of fewer than two classes.
    """
    source = torch.Generator().manual_seed(seed)
    members = {label: (class_n == label).nonzero()[:, 0] for label in present_classes(class_n)}
    ordered = list(permutations(members, 2))
    per_pair = min(per_pair, max(MAX_PAIRS // len(ordered), 1))
    chosen = sorted(torch.randperm(len(ordered), generator=source)[:MAX_PAIRS].tolist())

    def draw(label: int) -> Tensor:
        return members[label][torch.randint(len(members[label]), (per_pair,), generator=source)]

    pairs = [(draw(start), draw(end)) for start, end in (ordered[index] for index in chosen)]
    return torch.cat([start for start, _ in pairs]), torch.cat([end for _, end in pairs])


def tangent_hyperplanes(
    logits_of: Callable[[Tensor], Tensor],
    from_nX: Tensor,
    to_nX: Tensor,
    against_rest: bool = False,
    tolerance: float = 1e-2,
) -> Hyperplanes:
    """Find tangents to the decision boundary on the segments between pairs of samples.

    Each hyperplane touches the boundary of class a, the class of the segment's start, where the
    segment crosses that boundary.

    The segment is bisected until the logit of a exceeds the largest other logit by less than
    `tolerance`. The class of that other logit is the outside: b, the class at the end, or a third
    class if the segment enters it first. If a segment leaves a more than once, one of the crossings
    is found. The normal is the gradient of the margin, logit_a - logit_b. One Newton step along it
    moves the point onto the boundary; this is exact if the logits are linear. At a corner, where
    three classes meet, the third class may then exceed both by less than `tolerance`.

    Args:
        logits_of: Maps samples [B, X] to logits [B, N]; differentiable, without interaction between
            samples.
        from_nX: Samples at the start.
        to_nX: As many samples at the end, with other predicted classes.
        against_rest: Use the boundary where the softmax probability of a is one half. The margin is
            then over all other classes together; the hyperplanes separate a from all others, but do
            not identify one other class.
        tolerance: Tolerance of the margin.

    Returns:
        A hyperplane for each pair, in order. There is none for a pair of one class, for a start
        whose margin is not positive (against the rest), or at a point where the gradient is zero.
    """
    margin = _margin_over_rest if against_rest else _margin_over_next
    batches = zip(from_nX.split(BATCH), to_nX.split(BATCH), strict=True)
    return concatenate(
        [_tangents(logits_of, margin, start_BX, end_BX, tolerance) for start_BX, end_BX in batches]
    )


Margin = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _margin_over_next(logits_BN: Tensor, class_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return the margin of a class over the largest other logit [B], and that class [B]."""
    own_B1 = class_B[:, None]
    other_B, outside_B = logits_BN.scatter(1, own_B1, -torch.inf).max(dim=1)
    return logits_BN.gather(1, own_B1)[:, 0] - other_B, outside_B


def _margin_over_rest(logits_BN: Tensor, class_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log odds of a class against all others, log(p / (1 - p)) [B], and `REST` [B]."""
    own_B1 = class_B[:, None]
    others_B = logits_BN.scatter(1, own_B1, -torch.inf).logsumexp(dim=1)
    return logits_BN.gather(1, own_B1)[:, 0] - others_B, torch.full_like(class_B, REST)


def _tangents(
    logits_of: Callable[[Tensor], Tensor],
    margin: Margin,
    from_BX: Tensor,
    to_BX: Tensor,
    tolerance: float,
) -> Hyperplanes:
    with torch.no_grad():
        from_BN = logits_of(from_BX)
        inside_B = from_BN.argmax(dim=1)
        crosses_B = (margin(from_BN, inside_B)[0] > 0) & (margin(logits_of(to_BX), inside_B)[0] < 0)
        from_BX, to_BX, inside_B = from_BX[crosses_B], to_BX[crosses_B], inside_B[crosses_B]
        crossing_BX = _crossings(
            lambda x_kX, class_k: margin(logits_of(x_kX), class_k)[0],
            from_BX,
            to_BX,
            inside_B,
            tolerance,
        )
    with torch.enable_grad():
        margin_B, outside_B = margin(logits_of(crossing_BX.requires_grad_()), inside_B)
        (gradient_BX,) = torch.autograd.grad(margin_B.sum(), crossing_BX)
    norm_B1 = gradient_BX.norm(dim=1, keepdim=True)
    normal_BX = gradient_BX / norm_B1
    point_BX = crossing_BX.detach() - normal_BX * margin_B.detach()[:, None] / norm_B1
    tangents = Hyperplanes(
        normal_BX, (normal_BX * point_BX).sum(dim=1), inside_B, outside_B, point_BX
    )
    return tangents.select((norm_B1[:, 0] > 0).nonzero()[:, 0])


def _crossings(
    margin_of: Callable[[Tensor, Tensor], Tensor],
    from_BX: Tensor,
    to_BX: Tensor,
    inside_B: Tensor,
    tolerance: float,
) -> Tensor:
    """Bisect all segments together to the points [B, X] where the margin changes sign."""
    near_BX, far_BX = from_BX.clone(), to_BX.clone()
    open_k = torch.arange(len(inside_B))  # segments not yet within the tolerance
    for _ in range(MAX_BISECTIONS):
        if not len(open_k):
            break
        middle_kX = torch.lerp(near_BX[open_k], far_BX[open_k], 0.5)
        margin_k = margin_of(middle_kX, inside_B[open_k])
        inside_k, close_k = margin_k > 0, margin_k.abs() < tolerance
        near_BX[open_k[inside_k | close_k]] = middle_kX[inside_k | close_k]
        far_BX[open_k[~inside_k | close_k]] = middle_kX[~inside_k | close_k]
        open_k = open_k[~close_k]
    return torch.lerp(near_BX, far_BX, 0.5)
