"""Map unbounded numbers to inputs in [0, 1]: a sigmoid, and a softmax within one-hot groups.

Shape suffixes: B batch, F features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_unit_interval(values_B: Tensor, groups: Sequence[Sequence[int]] = ()) -> Tensor:
    """Return values in [0, 1] of the same shape.

    Args:
        values_B: Unbounded numbers, [B, ...]; [B, F] if there are groups.
        groups: Features that are a one-hot code of one categorical variable. The values of a group
            sum to 1.
    """
    inside_B = values_B.sigmoid()
    for group in groups:
        feature_G = torch.tensor(group, device=values_B.device)
        shares_BG = values_B.index_select(1, feature_G).softmax(dim=1)
        inside_B = inside_B.index_copy(1, feature_G, shares_BG)
    return inside_B
