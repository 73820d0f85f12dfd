"""Losses of data-free distillation, whose generators are inversions too.

DAFL is Chen et al. 2019 (arXiv 1904.01186); CMI is Fang et al. 2021 (arXiv 2105.08584). With
several processes the value is that of the whole batch, as in `losses.py`.

Shape suffixes: B batch, N classes, D features, K earlier images, M compared images.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.training.distributed import (
    rank,
    rows_of_all_ranks,
    sum_over_ranks,
    world_size,
)
from netinv_lightning.training.float32 import in_float32

LEAST_SHARE = 1e-12
"""Added to the share of a class before the logarithm."""


@in_float32
def own_prediction(logits_BN: Tensor) -> Tensor:
    """One-hot loss of DAFL: cross-entropy to the predicted label; mean over the batch.

        L_oh = -log softmax(logits)_t,   t = argmax logits

    It makes predictions confident, whatever the class, because DAFL's generator has no condition.
    """
    return F.cross_entropy(logits_BN, logits_BN.detach().argmax(dim=1))


@in_float32
def activation(f_BD: Tensor) -> Tensor:
    """Activation loss of DAFL: features of real images are large.

    L_a = -mean |f|,   over the batch and the features
    """
    return -f_BD.abs().mean()


@in_float32
def balance(logits_BN: Tensor) -> Tensor:
    """Information entropy loss of DAFL: the batch contains all classes equally often.

        L_ie = sum_i p_i log p_i,   p = mean over the batch of softmax(logits)

    It is -log N for equal shares, and 0 if all images have one class.
    """
    p_N = sum_over_ranks(logits_BN.softmax(dim=1).mean(dim=0)) / world_size()
    return (p_N * (p_N + LEAST_SHARE).log()).sum()


@in_float32
def instance_contrast(
    local_BD: Tensor, global_BD: Tensor, earlier_KD: Tensor, temperature: float = 0.1
) -> Tensor:
    """Contrastive loss of CMI: a crop of an image is distinguished from all other images.

        -log exp(s_ii / T) / sum_j exp(s_ij / T),   s_ij = cos(local_i, global_j)

    The mean over the batch is returned. The sum runs over the images of the batch and over earlier
    images. Images that are alike are confused, so the loss is high if the generator repeats itself.
    The gradient flows through the crops only.

    Args:
        local_BD: Features of a random crop of each image.
        global_BD: Features of the whole images.
        earlier_KD: Features of images of earlier batches (the memory bank); K may be 0.
        temperature: T.
    """
    B = len(local_BD)
    images_MD = torch.cat([rows_of_all_ranks(global_BD.detach()), earlier_KD.to(global_BD)])
    cosine_BM = F.normalize(local_BD, dim=1) @ F.normalize(images_MD, dim=1).T
    own_B = rank() * B + torch.arange(B, device=local_BD.device)
    return F.cross_entropy(cosine_BM / temperature, own_B)
