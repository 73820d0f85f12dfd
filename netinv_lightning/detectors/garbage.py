"""The score of a classifier with a garbage class (S2 section 5.2; A4-6).

Shape suffixes: n images, M classes, garbage the last.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from netinv_lightning.detectors.seen import Seen


@dataclass(frozen=True)
class GarbageOdds:
    """Log odds of the garbage class, log(p / (1 - p)): of logits, so no probability is rounded to 0 or 1."""

    def __call__(self, seen: Seen) -> Tensor:
        logits_nM = seen.logits_nN.double()
        return logits_nM[:, -1] - logits_nM[:, :-1].logsumexp(dim=1)
