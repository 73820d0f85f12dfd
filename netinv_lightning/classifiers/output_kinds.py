"""What the output of a network contains: logits, probabilities, log-probabilities or a sigmoid.

Shape suffixes: B batch, N classes.
"""

from __future__ import annotations

from torch import Tensor

LOGITS = "logits"
TOLERANCE = 1e-3
"""Largest distance of a sum of probabilities from 1; a softmax in half precision stays below it."""
_TRANSPARENT = (
    "View",
    "ReshapeAlias",
    "Squeeze",
    "Unsqueeze",
    "ToCopy",
    "Alias",
    "Clone",
    "Select",
    "Slice",
    "UnsafeView",
    "AsStrided",
)
"""Operations of autograd that change the shape or type of values only."""


def kind_of(values: Tensor, single: bool) -> str:
    """Return what an output contains for random images, one of the names above.

    Args:
        values: The output, [B, N], [B, N, 1, 1] or [B].
        single: Whether the N numbers are not a distribution, so that their sum is not tested.
    """
    flat_BN = (
        values.detach().float().flatten(1) if values.dim() > 1 else values.detach().float()[:, None]
    )
    inside = bool(((flat_BN >= 0) & (flat_BN <= 1)).all())
    if not single and inside and _all_one(flat_BN.sum(dim=1)):
        return "probabilities"
    if not single and bool((flat_BN <= TOLERANCE).all()) and _all_one(flat_BN.exp().sum(dim=1)):
        return "log_probabilities"
    return "sigmoid" if inside and _last_operation(values) == "Sigmoid" else LOGITS


def outside(values: Tensor, kind: str) -> bool:
    """Whether an output has values that one of this kind cannot have."""
    high = {"probabilities": 1.0, "sigmoid": 1.0, "log_probabilities": 0.0}.get(kind)
    if high is None:
        return False
    low = -TOLERANCE if high else -float("inf")
    return bool(((values < low) | (values > high + TOLERANCE)).any())


def _all_one(sum_B: Tensor) -> bool:
    return bool(((sum_B - 1).abs() < TOLERANCE).all())


def _last_operation(values: Tensor) -> str:
    """Return the last operation that autograd recorded, such as `Sigmoid`; empty if there is none.

    Operations that only change the shape or the type are skipped.
    """
    function = values.grad_fn
    while function is not None:
        name = function.name().rpartition("::")[2].partition("Backward")[0]
        if name not in _TRANSPARENT:
            return name
        function = function.next_functions[0][0] if function.next_functions else None
    return ""
