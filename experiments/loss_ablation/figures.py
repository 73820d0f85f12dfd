"""The figures of the loss ablation: curves, sweeps of weights, and pictures.

Shape suffixes: R variants, K images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from experiments.jobs import Row
from experiments.loss_ablation.job import CURVE, strip_path, unseen
from experiments.loss_ablation.variants import (
    ABLATION,
    ALL,
    MNIST,
    PICTURED,
    REAL,
    SWEEPS,
    TERMS,
)
from experiments.page import pick
from experiments.recipes import DATA_OF_RECIPE
from netinv_lightning import metric_names as names
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.figures.images import draw_images
from netinv_lightning.figures.style import (
    MARKERS,
    NEUTRAL,
    PALETTE,
    TWO_COLUMNS,
    paper_style,
    write_whole,
)

HERE = Path(__file__).parent
RESOLUTION = 200
"""Dots per inch of the pictures in the page."""
SIDE = 28


def draw_curves(rows: list[Row]) -> None:
    """Draw the inversion accuracy over the steps: without each term, and each term alone."""
    kinds = {"leave one out": "without ", "one alone": " alone"}
    panels_of = {
        (recipe, kind): variants
        for recipe in DATA_OF_RECIPE
        for kind, word in kinds.items()
        if len(variants := _with_curve(rows, recipe, word)) > 1
    }
    count = len(panels_of)
    with paper_style():
        figure = Figure(figsize=(TWO_COLUMNS, 0.2 + 1.8 * -(-count // 2)), layout="constrained")
        grid = figure.subplots(-(-count // 2), 2, sharex=True, sharey=True, squeeze=False)
        panels = [*grid.flat]
        for panel in panels:
            panel.set_axis_off()
        for panel, ((recipe, kind), variants) in zip(panels, panels_of.items(), strict=False):
            panel.set_axis_on()
            for variant in variants:
                _draw_curve(panel, rows, recipe, variant)
            panel.set(title=f"{DATA_OF_RECIPE[recipe]}, {kind}", ylim=(0, 1.04))
            panel.set(xlabel="step", ylabel="accuracy, soft")
            panel.tick_params(labelbottom=True, labelleft=True)  # shared axes hide them
            panel.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        _save(figure, "curves")


def _with_curve(rows: list[Row], recipe: str, word: str) -> list[str]:
    return [
        variant
        for variant in ABLATION
        if (variant == ALL or word in variant)
        and pick(rows, f"curve/{CURVE[-1]}", recipe=recipe, variant=variant)
    ]


def _draw_curve(panel: Axes, rows: list[Row], recipe: str, variant: str) -> None:
    points = {
        step: mean(values)
        for step in CURVE
        if (values := pick(rows, f"curve/{step}", recipe=recipe, variant=variant))
    }
    term = variant.removeprefix("without ").removesuffix(" alone")
    place = [*TERMS, ALL].index(term)
    colour = NEUTRAL if variant == ALL else PALETTE[place]
    marks = {"marker": MARKERS[place], "markersize": 2.5}
    panel.plot([*points], [*points.values()], color=colour, label=variant, **marks)


def draw_sweeps(rows: list[Row]) -> None:
    """Draw diversity, accuracy and transfer on MNIST over weights, temperature and dropout."""
    titles = {
        "cosine": "weight of cosine",
        "abstract": "cosine, no orthogonality",
        "orthogonality": "weight of orthogonality",
        "temperature": "temperature",
        "dropout": "dropout rate",
    }
    sweeps = {
        title: sweep
        for name, title in titles.items()
        if len(sweep := _that_ran(rows, SWEEPS[name])) > 2
    }
    with paper_style():
        figure = Figure(figsize=(TWO_COLUMNS, 3.8), layout="constrained")
        panels = figure.subplots(2, len(sweeps), sharey="row", sharex="col", squeeze=False)
        real = pick(rows, unseen(names.VENDI_CLASS), recipe=MNIST, variant=REAL)
        for (above, below), (title, sweep) in zip(panels.T, sweeps.items(), strict=True):
            lines = (
                (above, names.VENDI_CLASS, "attacked classifier", 0),
                (above, unseen(names.VENDI_CLASS), "unseen classifiers", 1),
                (below, names.INVERSION_ACCURACY, "accuracy, soft", 2),
                (below, names.TRANSFER_ACCURACY, "transfer", 3),
            )
            for panel, name, label, place in lines:
                _draw_sweep(panel, rows, sweep, name, label, place)
            if real:
                above.axhline(mean(real), color=NEUTRAL, linestyle=":", label="real, unseen")
            below.set(xlabel=title, ylim=(0, 1.05))
            below.set_xticks(range(len(sweep)), [f"{value:g}" for value in sweep])
        panels[0, 0].set(ylabel="Vendi score in a class", ylim=(0.9, None))
        panels[0, 0].set_yscale("log")
        panels[0, 0].set_yticks([1, 2, 5, 10], ["1", "2", "5", "10"])
        panels[0, 0].minorticks_off()
        panels[1, 0].set_ylabel("share of images")
        entries = [panel.get_legend_handles_labels() for panel in panels[:, 0]]
        handles, labels = (first + second for first, second in zip(*entries, strict=True))
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        _save(figure, "sweeps")


def _that_ran(rows: list[Row], sweep: Mapping[float, str]) -> dict[float, str]:
    return {
        value: variant
        for value, variant in sweep.items()
        if pick(rows, names.DUPLICATES, recipe=MNIST, variant=variant)
    }


def _draw_sweep(
    panel: Axes, rows: list[Row], sweep: Mapping[float, str], name: str, label: str, place: int
) -> None:
    found = [pick(rows, name, recipe=MNIST, variant=variant) for variant in sweep.values()]
    panel.errorbar(
        range(len(found)),
        [mean(values) for values in found],
        [stdev(values) if len(values) > 1 else 0 for values in found],
        label=label,
        color=PALETTE[place],
        marker=MARKERS[place],
        capsize=2,
    )


def draw_samples() -> None:
    """Draw the kept images of the first seed on MNIST, one row per variant."""
    kept = [variant for variant in PICTURED if strip_path(variant).exists()]
    if not kept:
        return
    x_RKCHW = torch.stack([_images_of(strip_path(variant)) for variant in kept])
    with paper_style():
        figure = Figure(figsize=(TWO_COLUMNS, 0.32 * len(kept) + 0.3), layout="constrained")
        axes = figure.subplots()
        columns = [f"{k // 2}" if k % 2 == 0 else "" for k in range(x_RKCHW.shape[1])]
        draw_images(axes, x_RKCHW, kept, columns)
        axes.xaxis.tick_top()
        _save(figure, "samples")


def _images_of(path: Path) -> torch.Tensor:
    pixels_HW = torch.from_numpy(np.array(Image.open(path)))
    return to_unit_range(pixels_HW.unflatten(1, (-1, SIDE)).permute(1, 0, 2)[:, None])


def _save(figure: Figure, name: str) -> None:
    write_whole(figure, HERE / f"{name}.png", dpi=RESOLUTION)
