"""Scores of the logits alone, higher = more out-of-distribution; nothing is fitted.

Logits are the outputs of the last layer; probabilities are their softmax, exp(logit_i) / sum_j
exp(logit_j). All scores use double precision: in single precision, many images of a confident
network have a probability of exactly 1, and their order is lost.

Shape suffixes: n images, N classes.
"""

from __future__ import annotations

import torch
from pytorch_ood.detector import (  # type: ignore[import-untyped]
    GEN,
    EnergyBased,
    Entropy,
    MaxLogit,
    MaxSoftmax,
)
from torch import Tensor


def msp(logits_nN: Tensor) -> Tensor:
    """One minus the maximum softmax probability, 0 to 1 - 1/N.

    Hendrycks and Gimpel 2017 (arXiv 1610.02136).

    SMOOD of the slides (Taparia), and the least-confidence score of active learning. LC of the
    slides is another score, see `LinearClassifierScore`.
    """
    score_n: Tensor = 1 + MaxSoftmax.score(logits_nN.double())
    return score_n


def max_logit(logits_nN: Tensor) -> Tensor:
    """Minus the largest logit (Hendrycks et al. 2022, arXiv 1911.11132)."""
    score_n: Tensor = MaxLogit.score(logits_nN.double())
    return score_n


def energy(logits_nN: Tensor) -> Tensor:
    """Energy -log sum_i exp(logit_i), at temperature 1 (Liu et al. 2020, arXiv 2010.03759)."""
    score_n: Tensor = EnergyBased.score(logits_nN.double())
    return score_n


def gen(logits_nN: Tensor) -> Tensor:
    """Generalised entropy: mean of (p (1 - p))^0.1 over the 100 largest probabilities.

    Liu, Lochman and Zach 2023 (CVPR); their sum gives the same order.
    """
    score_n: Tensor = GEN.score(logits_nN.double(), gamma=0.1, M=100)
    return score_n


def entropy(logits_nN: Tensor) -> Tensor:
    """Entropy of the probabilities, 0 to log N, in nats (Chan et al. 2021, arXiv 2012.06575).

    Entropy of pytorch-ood; it raises probabilities to at least 1e-7.
    """
    score_n: Tensor = Entropy.score(logits_nN.double())
    return score_n


def uncertainty(logits_nN: Tensor) -> Tensor:
    """Uncertainty estimate: 0 for one-hot, 1 for uniform probabilities.

    Suhail, Afroz, Bala and Sethi 2025 (arXiv 2505.23448):
    UE(p) = 1 - sum_i (p_i - 1/N)^2 / sum_i (delta_ik - 1/N)^2, with k the most probable class.
    Because the p_i sum to 1, this equals N / (N - 1) sum_i p_i (1 - p_i), the scaled Gini impurity.
    The sum of the other probabilities replaces 1 - p_k. If the margin between the two largest
    logits is above 37, 1 - p_k is 0 in double precision, and the order is lost. The sum keeps the
    order up to a margin of 700.
    """
    p_nN = logits_nN.double().softmax(dim=1).sort(dim=1, descending=True).values
    rest_n1 = p_nN[:, 1:].sum(dim=1, keepdim=True)
    N = p_nN.shape[1]
    return (p_nN * torch.cat([rest_n1, 1 - p_nN[:, 1:]], dim=1)).sum(dim=1) * (N / (N - 1))
