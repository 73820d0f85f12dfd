"""The figure of the page: covered share against distance, for all and for confident solutions."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

from experiments.jobs import Row, read_rows
from experiments.page import pick

TITLES = {"all": "all solutions", "confident": "confident solutions"}
LINES = {
    "sat": ("uniform solutions", "-"),
    "generator": ("generator", "-"),
    "gradient": ("gradient descent", "-"),
    "real digits": ("real digits", "--"),
    "other classes": ("other classes", ":"),
}


def curve(rows: list[Row], method: str, kind: str) -> tuple[list[int], list[float]]:
    """Return distances and the mean covered share at each, over the seeds."""
    prefix = f"near/{kind}/"
    names = {row["number"] for row in rows if str(row["number"]).startswith(prefix)}
    radii = sorted(int(name.removeprefix(prefix)) for name in names)
    return radii, [mean(pick(rows, f"{prefix}{r}", part="8x8", method=method)) for r in radii]


def draw_figure(results: Path, path: Path) -> None:
    """Draw the curves of results.csv."""
    rows = read_rows(results)
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, (kind, title) in zip(figure.subplots(1, 2, sharey=True), TITLES.items(), strict=True):
        for method, (name, style) in LINES.items():
            axes.plot(*curve(rows, method, kind), style, label=name)
        axes.axvline(pick(rows, f"radius/{kind}", part="8x8")[0], color="0.7", linewidth=0.8)
        axes.set(title=title, xlabel="Hamming distance to the nearest image (of 64 bits)")
    figure.axes[0].set_ylabel("covered share of solutions")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
