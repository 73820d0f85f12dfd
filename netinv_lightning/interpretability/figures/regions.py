"""Figure of the decision regions in the plane of the first two principal components.

Shape suffixes: n inverted and m real samples, 2 plane coordinates, K components, H x W mesh points.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.transforms import BboxBase
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch import Tensor

from netinv_lightning.figures.legends import class_marks, legend_below
from netinv_lightning.figures.style import (
    NEUTRAL,
    ONE_COLUMN,
    SMALL_POINTS,
    ClassStyle,
    class_styles,
    paper_style,
    save,
    style_of_class,
)
from netinv_lightning.figures.titles import title_above
from netinv_lightning.interpretability.figures.samples import draw_samples, label_components
from netinv_lightning.interpretability.regions import Regions

MAX_POINTS = 300
"""Largest number of samples drawn per set, so that the regions stay visible."""
FAINTEST, STRONGEST = 0.15, 0.6
"""Share of the class colour in a region at confidence 1/N and at confidence 1; the rest is white.
"""


def draw_regions(
    regions: Regions,
    z_n2: Tensor,
    label_n: Tensor,
    class_names: Sequence[str],
    variance_K: Tensor,
    agreement: float,
    path: Path,
    title: str = "",
    real: tuple[Tensor, Tensor] | None = None,
) -> Path:
    """Draw the decisions of the classifier over the plane, with samples on it.

    Each region has the colour of its class, stronger for higher confidence, and the name of the
    class in its widest place if there is space. At most 300 samples of each kind are drawn; the
    legend has their number.

    Args:
        regions: Classes and confidences on the mesh.
        z_n2: Inverted samples in the plane.
        label_n: Their classes.
        class_names: N names.
        variance_K: Explained share of the variance of each component, for the axis labels.
        agreement: Share of inverted samples with the same class on the plane as in the classifier;
            it is written below the title.
        path: Output path without suffix.
        title: Title of the figure.
        real: Real samples in the same plane, and their classes; None without data.

    Returns:
        The path of the PNG; a PDF is written beside it.
    """
    with paper_style():
        class_HW, x_W, y_H = regions.class_HW, regions.x_W, regions.y_H
        styles = class_styles(class_HW.flatten(), class_names)
        left, right, low, high = float(x_W[0]), float(x_W[-1]), float(y_H[0]), float(y_H[-1])
        ratio = (high - low) / (right - left)
        figure = Figure(
            figsize=(ONE_COLUMN, 0.4 + 3.0 * min(max(ratio, 0.6), 1.2)), layout="constrained"
        )
        axes = figure.subplots()
        axes.set(
            xlim=(left, right), ylim=(low, high), aspect="equal" if 0.6 <= ratio <= 1.2 else "auto"
        )
        own_HW = style_of_class(styles)[class_HW]
        colour_HW3 = torch.tensor([to_rgb(style.colour) for style in styles])[own_HW]
        axes.imshow(
            _on_white(colour_HW3, regions.confidence_HW, len(class_names)).numpy(),
            extent=_edges(x_W) + _edges(y_H),
            origin="lower",
            aspect=axes.get_aspect(),
            interpolation="nearest",
        )
        _draw_boundaries(axes, x_W, y_H, own_HW)
        sets = [
            draw_samples(axes, *samples, styles, kind, MAX_POINTS, on_regions=True)
            for kind, samples in (("real", real), ("inverted", (z_n2, label_n)))
            if samples is not None
        ][::-1]
        label_components(axes, variance_K)
        note = f"plane and classifier agree on {100 * agreement:.1f} % of the inverted samples"
        title_above(figure, f"{title}\n{note}")
        legend_below(figure, class_marks(styles), sets, _confidence_marks(len(class_names)))
        _name_regions(figure, axes, own_HW, styles)
        return save(figure, path)


def _on_white(colour_X3: Tensor, confidence_X: Tensor, classes: int) -> Tensor:
    """Return the RGB colour of a region: the class colour on white, by confidence."""
    above_chance_X = ((confidence_X.double() - 1 / classes) / (1 - 1 / classes)).clamp(0, 1)
    strength_X1 = (FAINTEST + (STRONGEST - FAINTEST) * above_chance_X)[..., None]
    return 1 - strength_X1 * (1 - colour_X3)


def _confidence_marks(classes: int) -> list[Artist]:
    confidence_2 = torch.tensor([0.5, 1.0])
    colour_23 = _on_white(torch.tensor(to_rgb(NEUTRAL)).expand(2, 3), confidence_2, classes)
    return [
        Patch(facecolor=tuple(c), label=f"confidence {p:g}")
        for c, p in zip(colour_23.tolist(), confidence_2.tolist(), strict=True)
    ]


def _edges(t: Tensor) -> tuple[float, float]:
    """Return the outer edges of a mesh, half a step beyond its outermost points."""
    half = float(t[-1] - t[0]) / (len(t) - 1) / 2
    return float(t[0]) - half, float(t[-1]) + half


def _draw_boundaries(axes: Axes, x_W: Tensor, y_H: Tensor, own_HW: Tensor) -> None:
    for i in own_HW.unique().tolist():
        # The filter smooths the steps of the mesh.
        inside_HW = gaussian_filter((own_HW == i).double().numpy(), sigma=1, mode="nearest")
        if inside_HW.min() < 0.5 < inside_HW.max():
            axes.contour(x_W.numpy(), y_H.numpy(), inside_HW, [0.5], colors=NEUTRAL, linewidths=0.5)


def _name_regions(figure: Figure, axes: Axes, own_HW: Tensor, styles: Sequence[ClassStyle]) -> None:
    """Write the name of each class in the widest place of its region, widest regions first.

    A name is left out if it would leave the axes or overlap another name.
    """
    figure.draw_without_rendering()  # the layout must be final before texts are measured
    widest = []
    for i, style in enumerate(styles):
        inside_HW = np.pad((own_HW == i).numpy(), 1)  # a region ends at the border of the figure
        depth_HW = distance_transform_edt(inside_HW)[1:-1, 1:-1]
        row, column = np.unravel_index(depth_HW.argmax(), depth_HW.shape)
        widest.append(
            (
                float(depth_HW.max()),
                (column + 0.5) / depth_HW.shape[1],
                (row + 0.5) / depth_HW.shape[0],
                style.name,
            )
        )
    taken: list[BboxBase] = []
    outline = patheffects.withStroke(linewidth=2, foreground="white")
    for depth, x, y, name in sorted(widest, reverse=True):
        if depth < 0.02 * len(own_HW):
            break
        text = axes.text(
            x,
            y,
            name,
            transform=axes.transAxes,
            ha="center",
            va="center",
            fontsize=SMALL_POINTS,
            path_effects=[outline],
        )
        box = text.get_window_extent()
        inside = (
            axes.bbox.x0 <= box.x0
            and box.x1 <= axes.bbox.x1
            and axes.bbox.y0 <= box.y0
            and box.y1 <= axes.bbox.y1
        )
        if inside and not any(box.overlaps(other) for other in taken):
            taken.append(box)
        else:
            text.remove()
