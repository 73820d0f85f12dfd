"""Decision regions in the plane of two principal components, and how much of the decision that plane holds (paper S2 section 5.1,
Fig. 3; A4-2).

The plane is one slice through all features: every point of the mesh has its other components at the mean. Away from the plane the
boundaries lie elsewhere, so a picture of them stands beside `agreement` and `boundary_agreement`, which say how often the slice
decides as the classifier does.

Shape suffixes: n samples, B a part of them, D features, k principal components, H x W points of the mesh, N classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from netinv_lightning.interpretability.projection import Projection

Head = Callable[[Tensor], Tensor]
"""Features [B, D] to logits [B, N]: what follows the features in the classifier."""
BATCH = 4096
LEAST_MARGIN = 0.1
"""Share of the samples, those of the least margin, that lie near the boundary."""


@dataclass(frozen=True)
class Regions:
    """What the classifier decides on a mesh over the plane of the first two components.

    Attributes:
        x_W: First component of the mesh's columns, rising.
        y_H: Second component of its rows, rising (draw with the origin below).
        class_HW: Class of each point.
        confidence_HW: Its probability, 1/N to 1.
        classes_seen: Share of the N classes that own a point of the mesh; a class that owns none is decided off the plane.
    """

    x_W: Tensor
    y_H: Tensor
    class_HW: Tensor
    confidence_HW: Tensor
    classes_seen: float


@torch.no_grad()
def decision_regions(
    projection: Projection,
    head: Head,
    points_n2: Tensor,
    resolution: int = 300,
    margin: float = 0.08,
) -> Regions:
    """Infers the class of every point of a mesh around given ones: inverse PCA, then the head (A4-2).

    A point of the mesh need not be within reach of any image: features after a ReLU are not negative, decoded ones may be.

    Args:
        projection: Of the features that the head takes.
        head: The rest of the classifier.
        points_n2: What is drawn over the regions, `projection.encode(features, 2)`.
        resolution: Points along each axis.
        margin: Room around the points, as a share of their extent along each axis.
    """
    low_2, high_2 = points_n2.min(dim=0).values, points_n2.max(dim=0).values
    room_2 = margin * (high_2 - low_2)
    x_W, y_H = (
        torch.linspace(float(low), float(high), resolution)
        for low, high in zip(low_2 - room_2, high_2 + room_2, strict=True)
    )
    grid_n2 = torch.cartesian_prod(y_H, x_W).flip(1)  # row by row
    logits_nN = torch.cat([head(projection.decode(part_B2)) for part_B2 in grid_n2.split(BATCH)])
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
    """Share of samples that keep their class when only the first k components of their features are left, for each k of `dims`.

    At k = 2 it is the share of points that `decision_regions` shows on ground of their own class. At k = 0, the control, all
    samples are at the mean and get one class, so that it is that class's share; at k = D it is 1.

    Args:
        projection: Fitted on these or on other features.
        head: The rest of the classifier.
        features_nD: Features of the samples.
        logits_nN: What the classifier gives for the samples.
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
    share: float = LEAST_MARGIN,
) -> dict[int, float]:
    """`agreement` among the samples that lie nearest to a boundary, those of the least margin.

    Samples far from every boundary keep their class however crude the projection; whether the boundary itself survives shows in
    those near it. The margin is the difference of the two greatest logits. A projection that moves such samples to either side at
    random would reach 0.5 if only the two nearest classes were in question; a third can win. At k = 0 it is what one class for all
    reaches.

    Args:
        projection: Fitted on these or on other features.
        head: The rest of the classifier.
        features_nD: Features of the samples.
        logits_nN: What the classifier gives for the samples.
        dims: Numbers of components, each from 0 to all of them.
        share: How many of the samples count as near, above 0 to 1; at least one does.

    Raises:
        InputError: if there are not that many components.
    """
    first_two_n2 = logits_nN.topk(2, dim=1).values
    margin_n = first_two_n2[:, 0] - first_two_n2[:, 1]
    near_m = margin_n.argsort(stable=True)[: max(1, round(share * len(margin_n)))]
    return agreement(projection, head, features_nD[near_m], logits_nN[near_m], dims)


def _projected_class(projection: Projection, head: Head, features_nD: Tensor, k: int) -> Tensor:
    parts = (
        head(projection.decode(projection.encode(part_BD, k))).argmax(dim=1)
        for part_BD in features_nD.split(BATCH)
    )
    return torch.cat(list(parts))
