"""Decision regions in the plane of two principal components.

They reproduce the decision boundaries of Fig. 3 of Suhail, Tang and Sethi (2024, arXiv 2411.17777,
section 5.1).

The plane is one slice through the feature space: at every mesh point the other components are at
the mean. Away from the plane the boundaries differ. `agreement` and `boundary_agreement` therefore
measure how often the slice gives the class that the classifier predicts.

Shape suffixes: n samples, B batch, D features, k principal components, H x W mesh points, N
classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from netinv_lightning.interpretability.projection import Projection

Head = Callable[[Tensor], Tensor]
"""Maps features [B, D] to logits [B, N]: the rest of the classifier after the feature layer."""
BATCH = 4096
LOWEST_MARGINS = 0.1
"""Share of the samples, those with the smallest margins, that count as near the boundary."""


@dataclass(frozen=True)
class Regions:
    """Decisions of the classifier on a mesh over the plane of the first two components.

    Attributes:
        x_W: First component of the mesh columns, ascending.
        y_H: Second component of the mesh rows, ascending (draw with the origin below).
        class_HW: Class of each point.
        confidence_HW: Probability of that class, 1/N to 1.
        classes_present: Share of the N classes with at least one mesh point.
    """

    x_W: Tensor
    y_H: Tensor
    class_HW: Tensor
    confidence_HW: Tensor
    classes_present: float


@torch.no_grad()
def decision_regions(
    projection: Projection,
    head: Head,
    points_n2: Tensor,
    resolution: int = 300,
    margin: float = 0.08,
) -> Regions:
    """Predict the class of every mesh point around given points: inverse PCA, then the head.

    A mesh point need not correspond to any image: features after a ReLU are not negative, decoded
    ones may be.

    Args:
        projection: Principal components of the features that the head takes.
        head: The rest of the classifier.
        points_n2: Points that are drawn over the regions, `projection.encode(features, 2)`.
        resolution: Points along each axis.
        margin: Margin around the points, as a share of their extent along each axis.
    """
    low_2, high_2 = points_n2.min(dim=0).values, points_n2.max(dim=0).values
    margin_2 = margin * (high_2 - low_2)
    x_W, y_H = (
        torch.linspace(float(low), float(high), resolution)
        for low, high in zip(low_2 - margin_2, high_2 + margin_2, strict=True)
    )
    grid_n2 = torch.cartesian_prod(y_H, x_W).flip(1)  # in row-major order
    logits_nN = torch.cat([head(projection.decode(f_B2)) for f_B2 in grid_n2.split(BATCH)])
    confidence_n, class_n = logits_nN.softmax(dim=1).max(dim=1)
    return Regions(
        x_W,
        y_H,
        class_n.unflatten(0, (resolution, resolution)),
        confidence_n.unflatten(0, (resolution, resolution)),
        len(class_n.unique()) / logits_nN.shape[1],
    )


@torch.no_grad()
def agreement(
    projection: Projection, head: Head, features_nD: Tensor, logits_nN: Tensor, dims: Sequence[int]
) -> dict[int, float]:
    """Return, for each k, the share of samples that keep their class on the first k components.

    At k = 2 it is the share of points that `decision_regions` shows in a region of their own class.
    The control is k = 0: all samples are then at the mean and get one class, so the result is the
    share of that class. At k = D it is 1.

    Args:
        projection: Fitted on these or on other features.
        head: The rest of the classifier.
        features_nD: Features of the samples.
        logits_nN: Logits of the samples.
        dims: Numbers of components, each from 0 to all of them.

    Raises:
        InputError: if there are not that many components.
    """
    class_n = logits_nN.argmax(dim=1)
    return {
        k: float((_projected_class(projection, head, features_nD, k) == class_n).float().mean())
        for k in dims
    }


def boundary_agreement(
    projection: Projection,
    head: Head,
    features_nD: Tensor,
    logits_nN: Tensor,
    dims: Sequence[int],
    share: float = LOWEST_MARGINS,
) -> dict[int, float]:
    """Compute `agreement` for the samples nearest to a boundary, those with the smallest margins.

    Samples far from every boundary keep their class even under a crude projection; samples near it
    show whether the boundary itself is preserved. The margin is the difference of the two largest
    logits. A projection that moves such samples to either side at random would reach 0.5 between
    two classes, and less if a third class wins. At k = 0 it is the share of the single predicted
    class.

    Args:
        projection: Fitted on these or on other features.
        head: The rest of the classifier.
        features_nD: Features of the samples.
        logits_nN: Logits of the samples.
        dims: Numbers of components, each from 0 to all of them.
        share: Share of the samples that count as near, above 0 to 1; at least one sample.

    Raises:
        InputError: if there are not that many components.
    """
    first_two_n2 = logits_nN.topk(2, dim=1).values
    margin_n = first_two_n2[:, 0] - first_two_n2[:, 1]
    near_m = margin_n.argsort(stable=True)[: max(1, round(share * len(margin_n)))]
    return agreement(projection, head, features_nD[near_m], logits_nN[near_m], dims)


def _projected_class(projection: Projection, head: Head, features_nD: Tensor, k: int) -> Tensor:
    parts = (
        head(projection.decode(projection.encode(f_BD, k))).argmax(dim=1)
        for f_BD in features_nD.split(BATCH)
    )
    return torch.cat(list(parts))
