"""Log odds of the class of an image, from the logits of a classifier.

Shape suffixes: B batch, N classes; further axes may come first.
"""

from __future__ import annotations

import torch
from torch import Tensor


def log_odds(logits_BN: Tensor, label_B: Tensor) -> Tensor:
    """Return log(p / (1 - p)) of the softmax probability p of each label, [..., B].

        log odds = f_y - log sum_{j != y} exp f_j

    It is above 0 if the probability is above 1/2. Unlike the probability it also distinguishes
    confident predictions that round to 1.

    Args:
        logits_BN: Logits [..., B, N].
        label_B: Labels [B], the same for all further axes.
    """
    index = label_B.expand(logits_BN.shape[:-1])[..., None]
    others_BN = logits_BN.scatter(-1, index, -torch.inf)
    return logits_BN.gather(-1, index).squeeze(-1) - others_BN.logsumexp(dim=-1)
