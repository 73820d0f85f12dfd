"""The equations of the objective, one function each.

The terms of the papers are those of Suhail, Tang and Sethi (2024, arXiv 2411.17777): L_KL, L_CE,
L_Cosine and L_Ortho of section 3.3; L_Var, L_Pix and L_Grad of section 5.3.

With several processes the value is that of the whole batch. A mean over images may be taken over
the share of a process, because DistributedDataParallel averages gradients. A sum, or a term that
compares images, sums over all ranks (`sum_over_ranks`). All functions compute in float32, whatever
the precision of the networks (`in_float32`). The gradient norm is in `gradient_norm.py`, priors of
images are in `image_priors.py`, losses of data-free distillation in `data_free_losses.py`,
uncertainty is in `uncertainty.py`.

Shape suffixes: B batch (the papers' N in sums over images), N classes, D features, C channels,
H height, W width, P pixels of a coarse image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.inversion.channel_moments import moments
from netinv_lightning.inversion.data_free_losses import (
    activation,
    balance,
    instance_contrast,
    own_prediction,
)
from netinv_lightning.inversion.gradient_norm import gradient_norm
from netinv_lightning.inversion.image_priors import (
    power_law_distance,
    similarity_divergence,
    total_variation,
)
from netinv_lightning.inversion.uncertainty import uncertainty
from netinv_lightning.training.distributed import rows_of_all_ranks, sum_over_ranks, world_size
from netinv_lightning.training.float32 import in_float32

__all__ = [
    "activation",
    "balance",
    "binary_cross_entropy",
    "class_spread",
    "cosine_similarity",
    "cross_entropy",
    "feature_spread",
    "gradient_norm",
    "instance_contrast",
    "kl_divergence",
    "orthogonality",
    "orthogonality_floor",
    "own_prediction",
    "pixel_range",
    "power_law_distance",
    "similarity_divergence",
    "statistics_distance",
    "statistics_norms",
    "total_variation",
    "uncertainty",
    "variation",
]


@in_float32
def kl_divergence(p_BN: Tensor, logits_BN: Tensor, double_softmax: bool = False) -> Tensor:
    """KL divergence of the classifier's output Q from the conditioning distribution P.

        L_KL = D_KL(P || Q) = sum_i P(i) log(P(i) / Q(i)),   Q = softmax(logits)

    The mean over the batch is returned.

    Args:
        p_BN: P.
        logits_BN: The classifier's logits.
        double_softmax: Q = softmax(softmax(logits)), as in the public notebooks; the term cannot
            reach 0 then.
    """
    if double_softmax:
        logits_BN = logits_BN.softmax(dim=1)
    return F.kl_div(logits_BN.log_softmax(dim=1), p_BN, reduction="batchmean")


@in_float32
def cross_entropy(logits_BN: Tensor, label_B: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy L_CE = -sum_i y_i log(yhat_i), y the requested label; mean over the batch.

    Args:
        logits_BN: The classifier's logits.
        label_B: The requested labels.
        label_smoothing: Share of the target that is spread over all classes.
    """
    return F.cross_entropy(logits_BN, label_B, label_smoothing=label_smoothing)


@in_float32
def binary_cross_entropy(
    logits_BN: Tensor, target_BN: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Binary cross-entropy for multi-label networks; mean over the batch.

        L_BCE = -sum_i y_i log p_i + (1 - y_i) log(1 - p_i),   p = sigmoid(logits)

    With label smoothing e, y becomes (1 - e) y + e / 2. For hard y it is also the KL divergence of
    the Bernoulli distributions of the labels.
    """
    y_BN = (1 - label_smoothing) * target_BN + label_smoothing / 2
    return F.binary_cross_entropy_with_logits(logits_BN, y_BN, reduction="sum") / len(logits_BN)


@in_float32
def cosine_similarity(f_BD: Tensor, absolute: bool = False) -> Tensor:
    """Mean cosine similarity of the features of different images.

        L_Cosine = 1 / (B (B - 1)) sum_{i != j} cos(theta_ij)

    No B x B matrix is built: for unit rows, sum_{i != j} cos(theta_ij) = |sum_i f_i|^2 - B. With
    `absolute` the result is the sum of |cos| over i != j, divided by B^2, as in the public
    notebooks; this needs the matrix.
    """
    B = len(f_BD) * world_size()
    unit_BD = F.normalize(f_BD, dim=1)
    if absolute:
        unit_BD = rows_of_all_ranks(unit_BD)
        gram_BB = unit_BD @ unit_BD.T
        return (gram_BB.abs().sum() - gram_BB.diagonal().abs().sum()) / B**2
    squares = sum_over_ranks(unit_BD.square().sum())  # 1 per image, or 0 if its features are 0
    return (sum_over_ranks(unit_BD.sum(dim=0)).square().sum() - squares) / (B * (B - 1))


@in_float32
def orthogonality(f_BD: Tensor, normalize: bool = True) -> Tensor:
    """Deviation of the features' Gram matrix G from the identity.

        L_Ortho = 1 / B^2 sum_{i,j} (G_ij - delta_ij)^2,   G = F F'

    If D < B, the smaller F'F is built instead of G: |FF' - I|^2 = |F'F|^2 - 2 |F|^2 + B.
    With unit rows the term cannot be below `orthogonality_floor`.

    Args:
        f_BD: Features F.
        normalize: Normalise the rows; False for the raw features of the public notebooks.
    """
    B, D = len(f_BD) * world_size(), f_BD.shape[1]
    f_BD = F.normalize(f_BD, dim=1) if normalize else f_BD
    if D < B:
        gram = sum_over_ranks(f_BD.T @ f_BD)
    else:
        rows_BD = rows_of_all_ranks(f_BD)
        gram = rows_BD @ rows_BD.T
    return (gram.square().sum() - 2 * sum_over_ranks(f_BD.square().sum()) + B) / B**2


def orthogonality_floor(batch: int, features: int) -> float:
    """Return the smallest L_Ortho of unit rows: 1/D - 1/B if B > D, else 0."""
    return max(0.0, 1 / features - 1 / batch)


@in_float32
def variation(x_BCHW: Tensor) -> Tensor:
    """Squared differences between neighbouring pixels, summed per image; mean over the batch.

    L_Var = 1/B sum_i sum_{h,w} (I_{i,h+1,w} - I_{i,h,w})^2 + (I_{i,h,w+1} - I_{i,h,w})^2

    Signals [B, C, L] have one sum, along their length.
    """
    sums = [
        (x_BCHW.narrow(dim, 1, side - 1) - x_BCHW.narrow(dim, 0, side - 1)).square().sum()
        for dim, side in enumerate(x_BCHW.shape)
        if dim >= 2
    ]
    return torch.stack(sums).sum() / len(x_BCHW)


@in_float32
def statistics_distance(x_BC: Tensor, mean_C: Tensor, var_C: Tensor) -> Tensor:
    """Distance of a layer's input to the running mean m and variance v of its BatchNorm.

        ((mu - m)^2 + (sigma - sqrt(v))^2) / v,   mean over the channels

    This is the squared Wasserstein-2 distance of normal distributions with these moments, in units
    of v. DeepInversion (Yin et al. 2020, arXiv 1912.08795) uses the norms of the differences of
    means and variances, which depend on the scale of each layer.

    Args:
        x_BC: The input of the layer, [B, C, ...].
        mean_C: m.
        var_C: v.
    """
    mu_C, square_C = moments(x_BC)
    var_C = var_C.clamp_min(1e-5)
    ratio_C = (
        square_C / var_C + 1e-6
    ).sqrt()  # so that the derivative of a constant channel is finite
    return ((mu_C - mean_C).square() / var_C + (ratio_C - 1).square()).mean()


@in_float32
def statistics_norms(x_BC: Tensor, mean_C: Tensor, var_C: Tensor) -> Tensor:
    """Euclidean distance of a layer's input to the running statistics of its BatchNorm.

        |mu - m|_2 + |sigma^2 - v|_2

    This is the regularisation R_feature of DeepInversion (Yin et al. 2020, arXiv 1912.08795).

    Args:
        x_BC: The input of the layer, [B, C, ...].
        mean_C: m.
        var_C: v.
    """
    mu_C, square_C = moments(x_BC)
    return torch.linalg.vector_norm(mu_C - mean_C) + torch.linalg.vector_norm(square_C - var_C)


@in_float32
def class_spread(x_BCHW: Tensor, label_B: Tensor, distance: float = 0.25, pool: int = 4) -> Tensor:
    """Penalty for images of one class that are closer than a distance, after average pooling.

        mean over pairs i != j of one class of max(0, 1 - |I_i - I_j| / distance)^2

    Features can differ by invisible details. This term keeps the images themselves apart; without
    it a generator tends to make one image per class. The mode-seeking term of conditional GANs has
    the same aim: it maximises the ratio of the distance of two images to that of their latents (Mao
    et al. 2019, arXiv 1903.05628).

    Args:
        x_BCHW: Images.
        label_B: Their classes.
        distance: Root mean square difference without penalty, in units of the pixel range.
        pool: Side of the squares that are averaged first, so that noise does not count as a
            difference.
    """
    coarse_BP = _pooled(x_BCHW, pool).flatten(1)
    rows_BP = rows_of_all_ranks(coarse_BP)
    labels_B = rows_of_all_ranks(label_B)
    norm_B = rows_BP.square().sum(dim=1)
    square_BB = (norm_B[:, None] + norm_B[None] - 2 * rows_BP @ rows_BP.T) / rows_BP.shape[1]
    short_BB = F.relu(1 - square_BB.clamp_min(1e-8).sqrt() / distance).square()
    return _mean_within_classes(short_BB, labels_B)


@in_float32
def feature_spread(f_BD: Tensor, label_B: Tensor, cosine: float = 0.5) -> Tensor:
    """Penalty for features of one class that point in the same direction.

        mean over pairs i != j of one class of max(0, cos(theta_ij) - c)

    Unlike L_Cosine it leaves different classes alone, and it stops at c, because photographs of one
    class have similar features too.

    Args:
        f_BD: Features.
        label_B: The classes of their images.
        cosine: c, the similarity up to which there is no penalty, from 0 to 1.
    """
    unit_BD = rows_of_all_ranks(F.normalize(f_BD, dim=1))
    return _mean_within_classes(F.relu(unit_BD @ unit_BD.T - cosine), rows_of_all_ranks(label_B))


def _mean_within_classes(value_BB: Tensor, label_B: Tensor) -> Tensor:
    """Return the mean over pairs of different images of one class; 0 if there are none."""
    same_BB = (label_B[:, None] == label_B[None]).logical_and(
        ~torch.eye(len(label_B), dtype=torch.bool, device=label_B.device)
    )
    return (value_BB * same_BB).sum() / same_BB.sum().clamp_min(1)


def _pooled(x_BCHW: Tensor, pool: int) -> Tensor:
    """Return averages over squares of images, or along signals; tables are not changed."""
    if x_BCHW.dim() == 2:
        return x_BCHW
    pool = min(pool, *x_BCHW.shape[2:])
    return F.avg_pool2d(x_BCHW, pool) if x_BCHW.dim() == 4 else F.avg_pool1d(x_BCHW, pool)


@in_float32
def pixel_range(x_BCHW: Tensor) -> Tensor:
    """Total distance of the pixels to [0, 1].

        L_Pix = sum max(0, -I) + sum max(0, I - 1)

    It is 0 by construction for a generator that ends in a sigmoid. It constrains images that are
    perturbed or optimised freely.
    """
    return sum_over_ranks(F.relu(-x_BCHW).sum() + F.relu(x_BCHW - 1).sum())
