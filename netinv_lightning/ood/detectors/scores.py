"""Scores of the logits alone, higher = more out-of-distribution; nothing is fitted.

Logits are what the last layer gives; probabilities are their softmax, exp(logit_i) / sum_j exp(logit_j) (A5-5).
In double precision: in single, a confident network's probabilities are 1 for many images, and their order is lost.

Shape suffixes: n images, N classes.
"""

from __future__ import annotations

import torch
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


def uncertainty(logits_nN: Tensor) -> Tensor:
    """The authors' uncertainty estimate of the probabilities p, from 0 for one-hot to 1 for uniform ones (arXiv 2505.23448).

    UE(p) = 1 - sum_i (p_i - 1/N)^2 / sum_i (delta_ik - 1/N)^2, k the greatest. Since the p_i sum to 1 this is N / (N - 1) times
    sum_i p_i (1 - p_i), the Gini impurity, scaled. So it is computed, with the sum of the others for 1 - p_k: even in double precision
    1 - p_k is 0 from a lead of 37 in the logits on, and the order is lost; as it is, the order is kept up to a lead of 700.
    """
    p_nN = logits_nN.double().softmax(dim=1).sort(dim=1, descending=True).values
    rest_n1 = p_nN[:, 1:].sum(dim=1, keepdim=True)
    N = p_nN.shape[1]
    return (p_nN * torch.cat([rest_n1, 1 - p_nN[:, 1:]], dim=1)).sum(dim=1) * (N / (N - 1))
