"""The figures of the page about all methods: cost against transfer, and a strip per method.

Shape suffixes: R methods, K classes, C channels, H height, W width.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from experiments.jobs import Row
from experiments.methods.contestants import CONTESTANTS, NETWORKS
from experiments.methods.inverting import read_strip
from experiments.methods.method_tables import run_methods, values
from netinv_lightning.data.specs import SPECS
from netinv_lightning.figures.images import image_grid
from netinv_lightning.figures.style import MARKERS, PALETTE, paper_style, write_whole

COSTS = {
    "seconds": "seconds of one core for 200 images",
    "passes": "images passed through the classifier",
}


def file_name(title: str) -> str:
    return title.replace(", ", "-").replace(" ", "_")


def draw_costs(rows: list[Row], path: Path) -> None:
    """Draw cost against transfer: hollow at equal cost, filled at the published budgets."""
    with paper_style():
        figure = Figure(figsize=(9.5, 4.2), layout="constrained")
        for axes, (cost, label) in zip(figure.subplots(1, 2), COSTS.items(), strict=True):
            for number, title in enumerate(CONTESTANTS):
                for budget in ("equal", "published"):
                    if title not in run_methods(rows, budget):
                        continue
                    colour = PALETTE[number % len(PALETTE)]
                    axes.plot(
                        _cost(rows, cost, budget, title),
                        fmean(values(rows, "transfer", budget, title)),
                        MARKERS[(number + number // 10 * 5) % len(MARKERS)],
                        color=colour,
                        markerfacecolor=colour if budget == "published" else "none",
                        label=title if budget == "equal" else None,
                    )
            axes.set(xscale="log", xlabel=label, ylabel="transfer accuracy", ylim=(0, 1))
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
        write_whole(figure, path, dpi=150)


def _cost(rows: list[Row], cost: str, budget: str, title: str) -> float:
    columns = ("forwards", "backwards") if cost == "passes" else ("seconds",)
    total = sum(fmean(values(rows, column, budget, title)) for column in columns)
    return max(total, 1.0 if cost == "passes" else 0.1)


def draw_strips(strips: Path, folder: Path) -> None:
    """Draw the first image of each class: one row per method, one figure per classifier."""
    for network, facts in NETWORKS.items():
        class_names = SPECS[facts.data].class_names
        found = {}
        for title in CONTESTANTS:
            path = strips / f"{network}-{file_name(title)}.png"
            if path.exists():
                found[title] = read_strip(path, len(class_names))
        if found:
            x_RKCHW = torch.stack([*found.values()])
            rows = [title.replace("natural without", "no") for title in found]
            image_grid(x_RKCHW, rows, folder / f"{network}.png", facts.title, class_names)
