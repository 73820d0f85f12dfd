"""Scores of the logits alone, higher = more out-of-distribution; nothing is fitted.

Logits are what the last layer gives; probabilities are their softmax, exp(logit_i) / sum_j exp(logit_j) (A5-5).
In double precision: in single, a confident network's probabilities are 1 for many images, and their order is lost.

Shape suffixes: n images, N classes.
"""

from __future__ import annotations

from pytorch_ood.detector import GEN, EnergyBased, MaxLogit, MaxSoftmax  # type: ignore[import-untyped]
from torch import Tensor


def msp(logits_nN: Tensor) -> Tensor:
    """One less the greatest probability, 0 to 1 - 1/N: the slides' SMOOD (A5-1; Hendrycks and Gimpel 2017).

    This is what active learning calls least confidence. The slides' LC is another thing: see `fitted.Outside`.
    """
    score_n: Tensor = 1 + MaxSoftmax.score(logits_nN.double())
    return score_n


def max_logit(logits_nN: Tensor) -> Tensor:
    """Less the greatest logit (Hendrycks et al. 2022)."""
    score_n: Tensor = MaxLogit.score(logits_nN.double())
    return score_n


def energy(logits_nN: Tensor) -> Tensor:
    """-log sum exp of the logits (Liu et al. 2020), at temperature 1."""
    score_n: Tensor = EnergyBased.score(logits_nN.double())
    return score_n


def gen(logits_nN: Tensor) -> Tensor:
    """Mean of (p (1 - p))^0.1 over the 100 greatest probabilities (Liu et al. 2023, whose sum has the same order)."""
    score_n: Tensor = GEN.score(logits_nN.double(), gamma=0.1, M=100)
    return score_n
