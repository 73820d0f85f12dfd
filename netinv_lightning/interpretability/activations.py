"""Activity of the hidden units of a sparse autoencoder, by class and by origin of the samples.

Suhail, Tang and Sethi (2024, arXiv 2411.17777, section 5.1) find that, within a class, different
units are active for samples of different generators, and for training data and inverted samples.
Each overlap of two sets of units is therefore reported together with the overlap of two halves of
one origin, which shows the effect of sampling.

Shape suffixes: n samples, B batch, M hidden units, N classes, G groups, U chosen units, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from sklearn.decomposition import PCA
from torch import Tensor

from netinv_lightning.data.splits import class_sums
from netinv_lightning.interpretability.autoencoders import SparseAutoencoder

BATCH = 500
MIN_FREQUENCY = 0.1
"""A unit is in the set of a class if it is active for at least this share of the samples."""
SPLITS = 20
SHUFFLES = 19
MIN_SAMPLES = 20
"""Fewest samples of a class in a group. With halves of fewer than 10 a share of 0.1 is too noisy.
"""


@dataclass(frozen=True)
class Group:
    """Unit activations and classes of samples of one origin, such as training data."""

    activations_nM: Tensor
    class_n: Tensor


@dataclass(frozen=True)
class Reconstruction:
    """Reconstruction quality and sparsity of an autoencoder on held-out samples."""

    unexplained: float
    """Squared error over the variance of the samples about their own mean. 0 is perfect, 1 is no
    better than predicting that mean. It can exceed 1 for samples of another origin than the
    training data.
    """
    unexplained_pca: float
    """The same error for a linear baseline, principal components of the training data. Their number
    is the mean number of active units (at least one).
    """
    active: float
    """L0: mean number of non-zero entries of a code."""
    dead: float
    """Share of units, 0 to 1, that are active for none of the samples."""


@dataclass(frozen=True)
class Selectivity:
    """Preferred class of each unit, and how strongly the unit prefers it."""

    mean_NM: Tensor
    """Mean activation on the samples of each class; NaN for a class without samples."""
    preferred_M: Tensor
    """Class with the largest mean activation; -1 for a unit that is never active."""
    selectivity_M: Tensor
    """From 0 (all classes alike) to 1 (active for one class only). NaN for a unit that is never
    active, or if there is only one class.
    """
    shuffled_M: Tensor
    """Largest of 19 values with the classes shuffled among the samples. A unit exceeds it by chance
    one time in 20 (a permutation test with p = 0.05). A rarely active unit is selective by chance:
    a single sample gives 1.
    """


@dataclass(frozen=True)
class Firing:
    """Activation frequency of each unit in each group of samples."""

    names: tuple[str, ...]
    frequency_GM: Tensor
    """Share of the samples of a group, 0 to 1, for which the unit is active; NaN for an empty
    group.
    """
    samples_G: Tensor


@dataclass(frozen=True)
class Overlap:
    """Overlap of the sets of active units between groups, class by class."""

    names: tuple[str, ...]
    jaccard_NGG: Tensor
    """Jaccard index of each class and pair of groups, 0 to 1: the number of units active in both,
    divided by the number active in either. The diagonal is the control: two halves of one group,
    which differ by sampling only. NaN if a group has too few samples.
    """
    samples_N: Tensor
    """Samples in each compared set, the same for all groups of a class; 0 if there are too few."""

    @property
    def mean_GG(self) -> Tensor:
        """The mean over classes."""
        return self.jaccard_NGG.nanmean(dim=0)


@torch.no_grad()
def unit_activations(model: SparseAutoencoder, x: Tensor) -> Tensor:
    """Return the activation of each unit [n, M] for samples [n, D] or [n, C, h, w].

    For maps it is the largest activation of the unit's map.
    """
    return torch.cat([model.unit_activations(model.encode(x_B)) for x_B in x.split(BATCH)])


@torch.no_grad()
def reconstruction(model: SparseAutoencoder, fitted: Tensor, held_out: Tensor) -> Reconstruction:
    """Measure a trained autoencoder on held-out samples.

    Args:
        model: The autoencoder.
        fitted: Its training samples; the PCA is fitted on them too.
        held_out: Other samples, at least two of them different.
    """
    error, active, fired_M = 0.0, 0, torch.zeros(len(model.decoder), dtype=torch.bool)
    for x_B in held_out.split(BATCH):
        a_B = model.encode(x_B)
        error += float((model.decode(a_B) - x_B).double().square().sum())
        active += int(a_B.count_nonzero())
        fired_M |= (model.unit_activations(a_B) > 0).any(dim=0)
    variance = float((held_out - held_out.mean(dim=0)).double().square().sum())
    linear_nD = reconstruction_by_pca(
        fitted.flatten(1), held_out.flatten(1), max(1, round(active / len(held_out)))
    )
    return Reconstruction(
        unexplained=error / variance,
        unexplained_pca=float((linear_nD - held_out.flatten(1)).double().square().sum()) / variance,
        active=active / len(held_out),
        dead=float((~fired_M).double().mean()),
    )


def reconstruction_by_pca(fitted_nD: Tensor, held_nD: Tensor, components: int) -> Tensor:
    """Reconstruct samples [n, D] from the first principal components of `fitted_nD`.

    All components are used if there are fewer than `components`.
    """
    n, D = fitted_nD.shape
    # The covariance matrix of a layer's maps may be larger than all samples together.
    solver = "covariance_eigh" if n > D else "full"
    pca = PCA(min(components, n, D), svd_solver=solver).fit(fitted_nD.numpy())
    return torch.from_numpy(pca.inverse_transform(pca.transform(held_nD.numpy())))


def selectivity(
    activations_nM: Tensor, class_n: Tensor, num_classes: int, seed: int
) -> Selectivity:
    """Compute the class selectivity index of each unit (Morcos et al. 2018, arXiv 1803.06959).

    (a - b) / (a + b), where a is the mean activation of the unit on its preferred class and b the
    mean over the other classes of their mean activations. Every class has the same weight, whatever
    its number of samples.

    Args:
        activations_nM: Activations, each 0 or more.
        class_n: Classes, 0 to N - 1.
        num_classes: N.
        seed: Seed of the shuffles.
    """
    mean_NM = _class_means(activations_nM, class_n, num_classes)
    source = torch.Generator().manual_seed(seed)
    shuffles = [class_n[torch.randperm(len(class_n), generator=source)] for _ in range(SHUFFLES)]
    shuffled = [
        _index(_class_means(activations_nM, shuffled_n, num_classes)) for shuffled_n in shuffles
    ]
    preferred_M = mean_NM.nan_to_num(-1).argmax(dim=0)
    preferred_M[~(activations_nM > 0).any(dim=0)] = -1
    return Selectivity(mean_NM, preferred_M, _index(mean_NM), torch.stack(shuffled).amax(dim=0))


def firing(groups: Mapping[str, Tensor]) -> Firing:
    """Return how often each unit is active in each group.

    Args:
        groups: Activations [n, M] of each group by its name; groups may differ in n.
    """
    frequency_GM = torch.stack([(a_nM > 0).float().mean(dim=0) for a_nM in groups.values()])
    return Firing(
        tuple(groups), frequency_GM, torch.tensor([len(a_nM) for a_nM in groups.values()])
    )


def overlap(
    groups: Mapping[str, Group], num_classes: int, seed: int, frequency: float = MIN_FREQUENCY
) -> Overlap:
    """Compare the sets of active units of different groups, class by class.

    A unit is in a set if it is active for at least `frequency` of the samples. All sets of a class
    have the same number of samples, half of the smallest group, because the error of a frequency
    depends on that number. The control is therefore the expected value of each entry if both groups
    came from one distribution. The result is the mean over 20 random splits into halves.

    Args:
        groups: Groups by name.
        num_classes: N.
        seed: Seed of the splits.
        frequency: Smallest share of samples for which a unit in the set is active, above 0 to 1.
    """
    source = torch.Generator().manual_seed(seed)
    G = len(groups)
    jaccard_NGG, samples_N = (
        torch.full((num_classes, G, G), torch.nan),
        torch.zeros(num_classes, dtype=torch.long),
    )
    for label in range(num_classes):
        active = [
            (group.activations_nM[group.class_n == label] > 0).float() for group in groups.values()
        ]
        present = [g for g in range(G) if len(active[g]) >= MIN_SAMPLES]
        if not present:
            continue
        size = min(len(active[g]) for g in present) // 2
        samples_N[label] = size
        splits = [
            _one_split([active[g] for g in present], size, frequency, source) for _ in range(SPLITS)
        ]
        place = torch.tensor(present)
        jaccard_NGG[label, place[:, None], place] = torch.stack(splits).nanmean(dim=0)
    return Overlap(tuple(groups), jaccard_NGG, samples_N)


def top_activating(activations_nM: Tensor, units: Tensor, count: int) -> Tensor:
    """Find the samples that activate each unit most, for a figure of their images.

    Args:
        activations_nM: Activations.
        units: Indices of units, [U].
        count: Samples per unit.

    Returns:
        Indices of samples [U, count], largest activation first, ties in their order. -1 if the unit
        is active for fewer samples.
    """
    a_Un = activations_nM[:, units].T
    order_Un = a_Un.argsort(dim=1, descending=True, stable=True)[:, :count]
    top_Uc = order_Un.where(a_Un.gather(1, order_Un) > 0, -1)
    return torch.nn.functional.pad(top_Uc, (0, count - top_Uc.shape[1]), value=-1)


def _class_means(activations_nM: Tensor, class_n: Tensor, num_classes: int) -> Tensor:
    """Return the mean of each class, [N, M]; NaN for a class without samples."""
    sums_NM = class_sums(activations_nM, class_n, num_classes)
    return sums_NM / class_n.bincount(minlength=num_classes)[:, None]


def _index(mean_NM: Tensor) -> Tensor:
    present_NM = mean_NM[~mean_NM[:, 0].isnan()]
    greatest_M = present_NM.amax(dim=0)
    others_M = (present_NM.sum(dim=0) - greatest_M) / (len(present_NM) - 1)
    return (greatest_M - others_M) / (greatest_M + others_M)


def _one_split(
    active: list[Tensor], size: int, frequency: float, source: torch.Generator
) -> Tensor:
    """Return Jaccard overlaps [G, G] of one random split of each group."""
    halves = []
    for active_nM in active:
        order = torch.randperm(len(active_nM), generator=source)
        halves += [
            active_nM[order[:size]].mean(dim=0),
            active_nM[order[size : 2 * size]].mean(dim=0),
        ]
    fires_HM = (torch.stack(halves) >= frequency).float()
    both_HH = fires_HM @ fires_HM.T
    number_H = both_HH.diagonal()
    jaccard_HH = both_HH / (number_H[:, None] + number_H - both_HH)
    # Two groups have four pairs of halves; one group has one pair without a common sample.
    pairs_GG22 = jaccard_HH.unflatten(0, (-1, 2)).unflatten(2, (-1, 2)).transpose(1, 2)
    own_G = pairs_GG22.diagonal()[0, 1]
    jaccard_GG = pairs_GG22.mean(dim=(2, 3))
    jaccard_GG.diagonal().copy_(own_G)
    return jaccard_GG
