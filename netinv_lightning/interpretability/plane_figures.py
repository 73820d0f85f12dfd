"""Figures of a plane: principal components, decision regions, t-SNE.

Inverted samples are filled marks, real ones hollow. Shape suffixes: n inverted and m real samples, 2 plane coordinates,
K components, Y rows and X columns of a mesh, S seeds, P perplexities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Patch
from matplotlib.transforms import BboxBase
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch import Tensor

from netinv_lightning.figures.style import (
    MARKER_AREAS,
    NEUTRAL,
    ONE_COLUMN,
    OTHERS_COLOUR,
    SMALL_POINTS,
    TWO_COLUMNS,
    ClassStyle,
    class_marks,
    class_styles,
    legend_below,
    mark,
    paper_style,
    save,
    style_of_class,
    title_above,
)
from netinv_lightning.training.seeds import random_order

MOST_POINTS = 1000  # drawn of one set; more only cover each other
MOST_POINTS_IN_PANEL = 500
MOST_POINTS_ON_REGIONS = 300
MOST_SEEDS = 3
EXPLAINED = 0.9  # share of the variance that the number of components is told for
FAINTEST, STRONGEST = (
    0.15,
    0.6,
)  # share of a class's colour in its region at confidence 1/N and 1; the rest is white


def pca_scatter(
    z_n2: Tensor,
    label_n: Tensor,
    variance_K: Tensor,
    class_names: Sequence[str],
    path: Path,
    title: str = "",
    real_z_m2: Tensor | None = None,
    real_label_m: Tensor | None = None,
) -> Path:
    """Draws samples in the plane of the first two principal components, and the variance explained by the components (A8-3).

    Args:
        z_n2: Inverted samples in the plane. Of more than 1,000 as many are drawn, by chance, and the legend says so.
        label_n: Their classes.
        variance_K: Explained share of the variance of each component, the greatest first.
        class_names: N names.
        path: Where to, without the ending.
        title: Above the figure.
        real_z_m2: Real samples in the same plane, or None.
        real_label_m: Their classes.

    Returns:
        The path of the PNG; a PDF lies beside it.
    """
    with paper_style():
        styles = class_styles(label_n, class_names)
        figure = Figure(figsize=(ONE_COLUMN, 4.0), layout="constrained")
        plane, curve = figure.subplots(2, 1, height_ratios=[3.4, 1])
        sets = []
        if real_z_m2 is not None and real_label_m is not None:
            sets.append(_draw_samples(plane, real_z_m2, real_label_m, styles, "real", MOST_POINTS))
        sets.insert(0, _draw_samples(plane, z_n2, label_n, styles, "inverted", MOST_POINTS))
        plane.set_aspect("equal", adjustable="datalim")
        _name_components(plane, variance_K)
        _draw_cumulative(curve, variance_K)
        title_above(figure, title)
        legend_below(figure, class_marks(styles), sets)
        return save(figure, path)


def decision_regions(
    class_YX: Tensor,
    confidence_YX: Tensor,
    x_X: Tensor,
    y_Y: Tensor,
    z_n2: Tensor,
    label_n: Tensor,
    class_names: Sequence[str],
    path: Path,
    title: str = "",
    variance_K: Tensor | None = None,
    agreement: float | None = None,
    real_z_m2: Tensor | None = None,
    real_label_m: Tensor | None = None,
) -> Path:
    """Draws what the classifier decides over the plane of two principal components, with samples on it (A8-3).

    A region has its class's colour, the stronger the more confident the classifier is, and its class's name in its midst where
    there is room. At most 300 samples of each kind are drawn, by chance; the legend tells of how many.

    Args:
        class_YX: The class of each mesh point.
        confidence_YX: The probability of that class, in [1/N, 1].
        x_X: First coordinates of the mesh, evenly spaced and ascending.
        y_Y: Second coordinates, likewise.
        z_n2: Inverted samples in the plane.
        label_n: Their classes.
        class_names: N names.
        path: Where to, without the ending.
        title: Above the figure.
        variance_K: Explained share of the variance of each component (two are enough), for the axes' labels, or None.
        agreement: Share of the samples whose class on the plane is the classifier's, told below the title, or None.
        real_z_m2: Real samples in the same plane, or None.
        real_label_m: Their classes.

    Returns:
        The path of the PNG; a PDF lies beside it.
    """
    with paper_style():
        styles = class_styles(class_YX.flatten(), class_names)
        left, right, low, high = float(x_X[0]), float(x_X[-1]), float(y_Y[0]), float(y_Y[-1])
        ratio = (high - low) / (right - left)
        figure = Figure(
            figsize=(ONE_COLUMN, 0.4 + 3.0 * min(max(ratio, 0.6), 1.2)), layout="constrained"
        )
        axes = figure.subplots()
        axes.set(
            xlim=(left, right), ylim=(low, high), aspect="equal" if 0.6 <= ratio <= 1.2 else "auto"
        )
        own_YX = style_of_class(styles)[class_YX]
        colour_YX3 = torch.tensor([to_rgb(style.colour) for style in styles])[own_YX]
        axes.imshow(
            _on_white(colour_YX3, confidence_YX, len(class_names)).numpy(),
            extent=_edges(x_X) + _edges(y_Y),
            origin="lower",
            aspect=axes.get_aspect(),
            interpolation="nearest",
        )
        _draw_boundaries(axes, x_X, y_Y, own_YX)
        sets = []
        if real_z_m2 is not None and real_label_m is not None:
            sets.append(
                _draw_samples(
                    axes,
                    real_z_m2,
                    real_label_m,
                    styles,
                    "real",
                    MOST_POINTS_ON_REGIONS,
                    on_regions=True,
                )
            )
        sets.insert(
            0,
            _draw_samples(
                axes, z_n2, label_n, styles, "inverted", MOST_POINTS_ON_REGIONS, on_regions=True
            ),
        )
        _name_components(axes, variance_K)
        told = (
            ""
            if agreement is None
            else f"plane and classifier agree on {100 * agreement:.1f} % of the inverted samples"
        )
        title_above(figure, "\n".join(filter(None, (title, told))))
        legend_below(figure, class_marks(styles), sets, _confidence_marks(len(class_names)))
        _name_regions(figure, axes, own_YX, styles)
        return save(figure, path)


def tsne_panels(
    e_SPn2: Tensor,
    label_n: Tensor,
    perplexities: Sequence[float],
    seeds: Sequence[int],
    overlap_P: Sequence[float],
    trustworthiness_P: Sequence[float],
    chance_overlap: float,
    class_names: Sequence[str],
    path: Path,
    title: str = "",
    chance_trustworthiness_P: Sequence[float] | None = None,
) -> Path:
    """Draws t-SNE embeddings: a column for each perplexity, a row for each seed, how stable they are below (A8-3).

    Axes have no scale: distances between groups and sizes of groups mean nothing in t-SNE.

    Args:
        e_SPn2: Embeddings. Of more than three seeds the first three are drawn, and the title says so; of more than 500
            samples as many are drawn, by chance, and the legend says so.
        label_n: Classes of the samples.
        perplexities: P of them.
        seeds: S of them.
        overlap_P: Shared share of the nearest neighbours between embeddings of different seeds, in [0, 1]; NaN, and not told, for
            a single seed.
        trustworthiness_P: Of the embeddings against the features, in [0, 1].
        chance_overlap: The overlap of two unrelated embeddings.
        class_names: N names.
        path: Where to, without the ending.
        title: Above the figure.
        chance_trustworthiness_P: That of embeddings whose points are dealt to other samples, or None.

    Returns:
        The path of the PNG; a PDF lies beside it.
    """
    S, P = min(len(e_SPn2), MOST_SEEDS), len(perplexities)
    if len(e_SPn2) > S:
        title = f"{title} (first {S} of {len(e_SPn2)} seeds)".strip()
    with paper_style():
        styles = class_styles(label_n, class_names)
        width = ONE_COLUMN if P == 1 else TWO_COLUMNS
        side = min(width / P, 3.0)
        figure = Figure(figsize=(width, side * S + 0.5), layout="constrained")
        axes_SP = figure.subplots(S, P, squeeze=False)
        for s in range(S):
            for p in range(P):
                axes = axes_SP[s, p]
                drawn = _draw_samples(
                    axes, e_SPn2[s, p], label_n, styles, "inverted", MOST_POINTS_IN_PANEL
                )
                axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
                axes.spines[:].set_visible(True)
            axes_SP[s, 0].set_ylabel(f"seed {seeds[s]}")
        gap = " " if P <= 2 else "\n"  # of more panels none is wide enough for one line
        for p in range(P):
            axes_SP[0, p].set_title(f"perplexity {perplexities[p]:g}")
            told = [f"trustworthiness {trustworthiness_P[p]:.3f}"]
            if chance_trustworthiness_P is not None:
                told[0] += f"{gap}(chance {chance_trustworthiness_P[p]:.2f})"
            if not math.isnan(overlap_P[p]):
                told.insert(
                    0, f"same neighbours {overlap_P[p]:.2f}{gap}(chance {chance_overlap:.2g})"
                )
            axes_SP[-1, p].set_xlabel("\n".join(told), fontsize=SMALL_POINTS)
        title_above(figure, title)
        legend_below(figure, class_marks(styles), [drawn])
        return save(figure, path)


def _draw_samples(
    axes: Axes,
    z_n2: Tensor,
    label_n: Tensor,
    styles: Sequence[ClassStyle],
    kind: str,
    most: int,
    on_regions: bool = False,
) -> Artist:
    """Draws at most `most` samples, chosen by chance but always the same; gives the legend's entry of their kind.

    All classes are one collection of marks in order of chance, so that none covers another; "others" lie below all.
    """
    n, hollow = len(z_n2), kind == "real"
    drawn_B = random_order(n, 0)[:most]
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
        rasterized=True,  # thousands of vector marks would make the PDF large and slow
    )
    points.set_paths([paths[i] for i in own])
    points.set_in_layout(False)  # it lies within the axes; measuring it takes long
    return mark(f"{kind} ({n})" if n <= most else f"{kind} ({most} of {n})", hollow=hollow)


def _name_components(axes: Axes, variance_K: Tensor | None) -> None:
    share = (
        ["", ""] if variance_K is None else [f" ({100 * float(v):.1f} %)" for v in variance_K[:2]]
    )
    axes.set(xlabel=f"PC 1{share[0]}", ylabel=f"PC 2{share[1]}")


def _draw_cumulative(axes: Axes, variance_K: Tensor) -> None:
    cumulative_K, K = variance_K.double().cumsum(dim=0), len(variance_K)
    axes.plot(range(1, K + 1), (100 * cumulative_K).tolist(), color=NEUTRAL)
    enough = int((cumulative_K < EXPLAINED).sum()) + 1
    if enough <= K:
        axes.plot(enough, 100 * float(cumulative_K[enough - 1]), "o", color=NEUTRAL)
        told = f"{100 * EXPLAINED:.0f} % at {enough} of {K} components"
    else:
        told = f"{K} components stay below {100 * EXPLAINED:.0f} %"
    axes.text(0.98, 0.1, told, transform=axes.transAxes, ha="right", fontsize=SMALL_POINTS)
    axes.set_xscale("log")
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if k <= K]
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.minorticks_off()
    axes.set(xlabel="components", ylabel="variance (%)", ylim=(0, 105), yticks=[0, 50, 100])


def _on_white(colour_X3: Tensor, confidence_X: Tensor, classes: int) -> Tensor:
    """RGB of a class's region: the class's colour on white, stronger with the confidence."""
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
    """Where the first and the last pixel of a mesh end: half a step beyond its outermost points."""
    half = float(t[-1] - t[0]) / (len(t) - 1) / 2
    return float(t[0]) - half, float(t[-1]) + half


def _draw_boundaries(axes: Axes, x_X: Tensor, y_Y: Tensor, own_YX: Tensor) -> None:
    for i in own_YX.unique().tolist():
        inside_YX = gaussian_filter(
            (own_YX == i).double().numpy(), sigma=1, mode="nearest"
        )  # without: stairs of the mesh
        if inside_YX.min() < 0.5 < inside_YX.max():
            axes.contour(x_X.numpy(), y_Y.numpy(), inside_YX, [0.5], colors=NEUTRAL, linewidths=0.5)


def _name_regions(figure: Figure, axes: Axes, own_YX: Tensor, styles: Sequence[ClassStyle]) -> None:
    """Writes each class's name where its region is widest, the widest region first, unless it would leave the axes or lie on
    another name.
    """
    figure.draw_without_rendering()  # the layout must be settled before texts are measured
    widest = []
    for i, style in enumerate(styles):
        inside_YX = np.pad((own_YX == i).numpy(), 1)  # the border of the picture ends a region
        depth_YX = distance_transform_edt(inside_YX)[1:-1, 1:-1]
        row, column = np.unravel_index(depth_YX.argmax(), depth_YX.shape)
        widest.append(
            (
                float(depth_YX.max()),
                (column + 0.5) / depth_YX.shape[1],
                (row + 0.5) / depth_YX.shape[0],
                style.name,
            )
        )
    taken: list[BboxBase] = []
    outline = patheffects.withStroke(linewidth=2, foreground="white")
    for depth, x, y, name in sorted(widest, reverse=True):
        if depth < 0.02 * len(own_YX):
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
