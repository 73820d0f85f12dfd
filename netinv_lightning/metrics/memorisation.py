"""Similarity of images to training images, compared with images that the classifier never saw.

The similarity is normalised cross-correlation (Haim et al. 2022, arXiv 2206.07758): the dot product
of images whose pixels have mean 0 and norm 1. Each image has a nearest neighbour among m training
images and one among m held-out images. Without leakage of the training set, both are equally near
on average. The gap is the mean difference. Two tests show whether it is due to chance: a bootstrap
over the images, and random splits of the reference images into two halves.

Shape suffixes: n images, m references of one kind, X references of both kinds, K nearest
references, P pixels, S splits, R resamples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.metrics.correlation import unit_rows

LARGEST_REFERENCE = 10_000
LARGEST_PROBE = 1_000
SAME = 1 - 1e-5  # similarity of an image with itself, minus rounding
SPLITS = 199
RESAMPLES = 999
NEAREST = 32  # references per image; all are in one half with probability 2^-31


def memorisation(
    x_nCHW: Tensor, training_mCHW: Tensor, held_out_mCHW: Tensor, seed: int = 0
) -> dict[str, float]:
    """Compare the nearest training image with the nearest held-out image.

    Args:
        x_nCHW: The images to evaluate, in [0, 1] or uint8; if there are more than 1,000, a random
            subset.
        training_mCHW: Images that the classifier was trained on.
        held_out_mCHW: Images of the same source that it was not trained on. The larger of both sets
            is reduced to the size of the smaller, and both to 10,000, at random. If evaluated
            images are among them (such as real test images), an image is not its own neighbour.
        seed: Seed of subsets, resamples and splits.

    Returns:
        The mean similarity to the nearest image of each kind, in [-1, 1]; their difference; the
        ends of its 95 % bootstrap confidence interval; and the share of random splits of the
        references with a gap at least as large.
    """
    source = torch.Generator().manual_seed(seed)
    m = min(len(training_mCHW), len(held_out_mCHW), LARGEST_REFERENCE)
    reference_XP = torch.cat(
        [unit_rows(_choice(images, m, source)) for images in (training_mCHW, held_out_mCHW)]
    )
    similarity_nX = torch.cat(
        [
            part_bP @ reference_XP.T
            for part_bP in unit_rows(_choice(x_nCHW, LARGEST_PROBE, source)).split(250)
        ]
    )
    own_nm = similarity_nX[:, m:] > SAME
    similarity_nX[:, m:][own_nm] = -1.0
    nearest_n2 = similarity_nX.unflatten(1, (2, m)).amax(dim=2).double()
    gap_n = nearest_n2[:, 0] - nearest_n2[:, 1]
    gap, n = float(gap_n.mean()), len(gap_n)
    resampled_R = gap_n[torch.randint(n, (RESAMPLES, n), generator=source)].mean(dim=1)
    low, high = torch.quantile(
        resampled_R, torch.tensor([0.025, 0.975], dtype=torch.float64)
    ).tolist()
    as_large = sum(float(null) >= gap for null in _gaps_of_random_splits(similarity_nX, source))
    return {
        names.MEMORISATION_NEAREST_TRAINING: float(nearest_n2[:, 0].mean()),
        names.MEMORISATION_NEAREST_HELD_OUT: float(nearest_n2[:, 1].mean()),
        names.MEMORISATION_GAP: gap,
        names.MEMORISATION_GAP_LOW: low,
        names.MEMORISATION_GAP_HIGH: high,
        names.MEMORISATION_GAP_P_VALUE: (1 + as_large) / (1 + SPLITS),
    }


def _gaps_of_random_splits(similarity_nX: Tensor, source: torch.Generator) -> Tensor:
    """Return the gap for random splits of the references into halves, [S]."""
    X = similarity_nX.shape[1]
    value_nK, index_nK = similarity_nX.topk(min(NEAREST, X), dim=1)
    gap_S = torch.empty(SPLITS, dtype=torch.float64)
    for split in range(SPLITS):
        first_X = torch.zeros(X, dtype=torch.bool)
        first_X[torch.randperm(X, generator=source)[: X // 2]] = True
        first_nK = first_X[index_nK]
        halves = [
            torch.where(inside_nK, value_nK, value_nK[:, -1:]).amax(dim=1)
            for inside_nK in (first_nK, ~first_nK)
        ]
        gap_S[split] = (halves[0] - halves[1]).double().mean()
    return gap_S


def _choice(images_nCHW: Tensor, size: int, source: torch.Generator) -> Tensor:
    n = len(images_nCHW)
    chosen_nCHW = (
        images_nCHW if n <= size else images_nCHW[torch.randperm(n, generator=source)[:size]]
    )
    return chosen_nCHW.float().cpu()
