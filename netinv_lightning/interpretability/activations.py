"""What the hidden units of a sparse autoencoder do: for which classes they fire, and for samples of which origin (A4-4, A8-11).

The paper (S2 section 5.1) finds that units fire differently for samples of different generators within a class, and for training
data and inverted samples. Whether two sets of units differ by more than chance is told beside two halves of one origin.

Shape suffixes: n samples, B batch, M hidden units, N classes, G groups, U chosen units, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from sklearn.decomposition import PCA
from torch import Tensor

from netinv_lightning.interpretability.autoencoders import SparseAutoencoder

BATCH = 500
FIRES = 0.1
"""A unit belongs to the set of units of a class if it is active for this share of the class's samples."""
SPLITS = 20
SHUFFLES = 19
LEAST = 20
"""A group with fewer samples of a class has no set of units for it: already halves of 10 tell a share of 0.1 badly."""


@dataclass(frozen=True)
class Group:
    """Samples of one origin, such as training data or one generator: what the units do on each, and its class."""

    activations_nM: Tensor
    class_n: Tensor


@dataclass(frozen=True)
class Reconstruction:
    """How well, and with how little, an autoencoder tells samples that it was not trained on."""

    unexplained: float
    """Squared error over the samples' variance about their own mean: 0 is perfect, 1 no better than predicting that mean; above 1 is
    possible where they come from elsewhere than the training data."""
    unexplained_pca: float
    """The linear control: the same by as many principal components of the training data as units are active in the mean (one at least)."""
    active: float
    """L0: mean number of entries of a sample's code that are not 0."""
    dead: float
    """Share of units, 0 to 1, that are active for none of the samples."""


@dataclass(frozen=True)
class Selectivity:
    """For which class a unit is active most, and how much more than for the others."""

    mean_NM: Tensor
    """Mean activation on the samples of each class; NaN for a class without samples."""
    favourite_M: Tensor
    """The class of the greatest mean; -1 for a unit that is active for none."""
    selectivity_M: Tensor
    """0: all classes alike, 1: active for one class alone; NaN for a unit that is active for none, or if there is one class only."""
    shuffled_M: Tensor
    """The greatest of 19 with the classes shuffled among samples, which a unit exceeds by chance one time in 20 (a permutation test of p =
    0.05). A unit that fires rarely is selective by chance: a single sample gives 1."""


@dataclass(frozen=True)
class Firing:
    """How often each unit fires for the samples of each group."""

    names: tuple[str, ...]
    frequency_GM: Tensor
    """Share of the group's samples, 0 to 1, for which the unit is active; NaN for a group without samples."""
    samples_G: Tensor


@dataclass(frozen=True)
class Overlap:
    """Whether the same units fire for samples of one class but different origin."""

    names: tuple[str, ...]
    jaccard_NGG: Tensor
    """For each class and two groups, units that fire in both over units that fire in either, 0 to 1. On the diagonal the control, two
    halves of one group: as far apart as chance alone takes two sets of that many samples. NaN where a group has too few samples."""
    samples_N: Tensor
    """Samples in each of the compared sets, the same for all groups of a class; 0 where there are too few."""

    @property
    def mean_GG(self) -> Tensor:
        """The mean over classes."""
        return self.jaccard_NGG.nanmean(dim=0)


@torch.no_grad()
def unit_activations(model: SparseAutoencoder, x: Tensor) -> Tensor:
    """Each unit's activation [n, M] on samples [n, D] or [n, C, h, w]; for maps, the largest of a unit's map."""
    return torch.cat([model.unit_activations(model.encode(x_B)) for x_B in x.split(BATCH)])


@torch.no_grad()
def reconstruction(model: SparseAutoencoder, fitted: Tensor, held: Tensor) -> Reconstruction:
    """Measures a trained autoencoder on samples that it has not seen.

    Args:
        model: The autoencoder.
        fitted: What it was trained on; the PCA is fitted on the same.
        held: Other samples, at least two different ones.
    """
    error, active, fired_M = 0.0, 0, torch.zeros(len(model.decoder), dtype=torch.bool)
    for x_B in held.split(BATCH):
        a_B = model.encode(x_B)
        error += float((model.decode(a_B) - x_B).double().square().sum())
        active += int(a_B.count_nonzero())
        fired_M |= (model.unit_activations(a_B) > 0).any(dim=0)
    variance = float((held - held.mean(dim=0)).double().square().sum())
    linear_nD = reconstruction_by_pca(
        fitted.flatten(1), held.flatten(1), max(1, round(active / len(held)))
    )
    return Reconstruction(
        unexplained=error / variance,
        unexplained_pca=float((linear_nD - held.flatten(1)).double().square().sum()) / variance,
        active=active / len(held),
        dead=float((~fired_M).double().mean()),
    )


def reconstruction_by_pca(fitted_nD: Tensor, held_nD: Tensor, components: int) -> Tensor:
    """What is left of samples [n, D] on the first principal components of `fitted_nD`; on all where there are fewer."""
    n, D = fitted_nD.shape
    solver = (
        "covariance_eigh" if n > D else "full"
    )  # the covariance of a layer's maps may be larger than all its samples
    pca = PCA(min(components, n, D), svd_solver=solver).fit(fitted_nD.numpy())
    return torch.from_numpy(pca.inverse_transform(pca.transform(held_nD.numpy())))


def selectivity(
    activations_nM: Tensor, class_n: Tensor, num_classes: int, seed: int
) -> Selectivity:
    """The class selectivity index of each unit (Morcos et al. 2018, arXiv 1803.06959).

    (a - b) / (a + b), where a is the unit's mean activation on its favourite class, b the mean over the other classes of theirs; all
    are 0 or more. Classes count alike whatever their number of samples.

    Args:
        activations_nM: Activations, each 0 or more.
        class_n: Classes, 0 to N - 1.
        num_classes: N.
        seed: Of the shuffles.
    """
    mean_NM = _class_means(activations_nM, class_n, num_classes)
    source = torch.Generator().manual_seed(seed)
    shuffles = [class_n[torch.randperm(len(class_n), generator=source)] for _ in range(SHUFFLES)]
    shuffled = [
        _index(_class_means(activations_nM, shuffled_n, num_classes)) for shuffled_n in shuffles
    ]
    favourite_M = mean_NM.nan_to_num(-1).argmax(dim=0)
    favourite_M[~(activations_nM > 0).any(dim=0)] = -1
    return Selectivity(mean_NM, favourite_M, _index(mean_NM), torch.stack(shuffled).amax(dim=0))


def firing(groups: Mapping[str, Tensor]) -> Firing:
    """How often each unit fires, by group.

    Args:
        groups: Activations [n, M] of each group by its name; groups may differ in n.
    """
    frequency_GM = torch.stack([(a_nM > 0).float().mean(dim=0) for a_nM in groups.values()])
    return Firing(
        tuple(groups), frequency_GM, torch.tensor([len(a_nM) for a_nM in groups.values()])
    )


def overlap(
    groups: Mapping[str, Group], num_classes: int, seed: int, frequency: float = FIRES
) -> Overlap:
    """Compares which units fire for samples of different groups, class by class.

    A unit is in a set if it is active for at least `frequency` of the set's samples. All sets of a class have equally many samples,
    half of the smallest group's, because how far a frequency strays from its true value depends on that number; so the control is
    what each entry would be if both groups came from one distribution. Means over 20 random halvings.

    Args:
        groups: Groups by name.
        num_classes: N.
        seed: Of the halvings.
        frequency: From what share of samples on a unit counts as firing, above 0 to 1.
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
        present = [g for g in range(G) if len(active[g]) >= LEAST]
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
    """Which samples excite each unit most, for a figure of their images.

    Args:
        activations_nM: Activations.
        units: Indices of units, [U].
        count: Samples a unit.

    Returns:
        Indices of samples [U, count], the most exciting first, of equal ones the earlier; -1 where a unit is active for no more.
    """
    a_Un = activations_nM[:, units].T
    order_Un = a_Un.argsort(dim=1, descending=True, stable=True)[:, :count]
    top_Uc = order_Un.where(a_Un.gather(1, order_Un) > 0, -1)
    return torch.nn.functional.pad(top_Uc, (0, count - top_Uc.shape[1]), value=-1)


def _class_means(activations_nM: Tensor, class_n: Tensor, num_classes: int) -> Tensor:
    sums_NM = torch.zeros(num_classes, activations_nM.shape[1]).index_add(
        0, class_n, activations_nM
    )
    return sums_NM / class_n.bincount(minlength=num_classes)[:, None]


def _index(mean_NM: Tensor) -> Tensor:
    present_NM = mean_NM[~mean_NM[:, 0].isnan()]
    greatest_M = present_NM.amax(dim=0)
    others_M = (present_NM.sum(dim=0) - greatest_M) / (len(present_NM) - 1)
    return (greatest_M - others_M) / (greatest_M + others_M)


def _one_split(
    active: list[Tensor], size: int, frequency: float, source: torch.Generator
) -> Tensor:
    """Jaccard overlaps [G, G] of one random halving of each group's `active` samples [n, M]."""
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
    # Four pairs of halves for two groups; for one group the only pair that shares no sample.
    pairs_GG22 = jaccard_HH.unflatten(0, (-1, 2)).unflatten(2, (-1, 2)).transpose(1, 2)
    own_G = pairs_GG22.diagonal()[0, 1]
    jaccard_GG = pairs_GG22.mean(dim=(2, 3))
    jaccard_GG.diagonal().copy_(own_G)
    return jaccard_GG
