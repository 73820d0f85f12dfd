"""Scatter plots in a plane: inverted samples as filled markers, real ones as hollow markers.

Shape suffixes: n samples, B drawn samples, K components.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.markers import MarkerStyle
from torch import Tensor

from netinv_lightning.figures.legends import mark
from netinv_lightning.figures.style import MARKER_AREAS, OTHERS_COLOUR, ClassStyle, style_of_class
from netinv_lightning.training.seeds import random_order


def draw_samples(
    axes: Axes,
    z_n2: Tensor,
    label_n: Tensor,
    styles: Sequence[ClassStyle],
    kind: str,
    limit: int,
    on_regions: bool = False,
) -> Artist:
    """Draw at most `limit` samples, chosen at random with a fixed seed; return the legend entry.

    All classes are one collection of markers in random order, so no class covers another; "others"
    are below all.
    """
    n, hollow = len(z_n2), kind == "real"
    drawn_B = random_order(n, 0)[:limit]
    own_B = style_of_class(styles)[label_n[drawn_B]]
    classes_B = torch.tensor([len(style.labels) for style in styles])[own_B]
    order_B = classes_B.argsort(descending=True, stable=True)
    z_B2, own = z_n2[drawn_B[order_B]].numpy(), own_B[order_B].tolist()
    marks = [MarkerStyle(style.marker) for style in styles]
    paths = [form.get_path().transformed(form.get_transform()) for form in marks]
    colours = [styles[i].colour for i in own]
    rim = "black" if on_regions else "white"
    edges = [colour if hollow or colour == OTHERS_COLOUR else rim for colour in colours]
    points = axes.scatter(
        z_B2[:, 0],
        z_B2[:, 1],
        s=[(10 if on_regions else 7) * MARKER_AREAS.get(styles[i].marker, 1) for i in own],
        facecolors="none" if hollow else colours,
        edgecolors=edges,
        linewidths=0.7 if hollow else 0.4 if on_regions else 0.15,
        rasterized=True,  # thousands of vector markers would make the PDF large and slow
    )
    points.set_paths([paths[i] for i in own])
    points.set_in_layout(False)  # markers are within the axes, and their layout is slow
    return mark(f"{kind} ({n})" if n <= limit else f"{kind} ({limit} of {n})", hollow=hollow)


def label_components(axes: Axes, variance_K: Tensor) -> None:
    """Label the axes with the component and its share of the variance."""
    x, y = (f"PC {k} ({100 * float(v):.1f} %)" for k, v in zip((1, 2), variance_K, strict=False))
    axes.set(xlabel=x, ylabel=y)
