"""The figure of the page: coverage against the number of images, and against the distance."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.jobs import Row, read_rows
from experiments.page import pick

LINES = {
    "sat": ("uniform solutions", "C0", "-"),
    "papers": ("generator, papers", "C1", "-"),
    "natural": ("generator, natural", "C3", "-"),
    "gradient": ("gradient descent", "C2", "-"),
    "real digits": ("real digits", "0.3", "--"),
    "other classes": ("other classes", "0.3", ":"),
}
"""Name, colour and style of the curve of each method."""


def curve(rows: list[Row], prefix: str, part: str, method: str) -> tuple[list[int], list[float]]:
    """Return the numbers after `prefix` and the mean value at each, over the seeds."""
    names = {
        str(row["number"])
        for row in rows
        if str(row["number"]).startswith(prefix) and row["part"] == part and row["method"] == method
    }
    places = sorted(int(name.removeprefix(prefix)) for name in names)
    return places, [mean(pick(rows, f"{prefix}{x}", part=part, method=method)) for x in places]


def draw_figure(results: Path, path: Path) -> None:
    """Draw the curves of results.csv."""
    rows = read_rows(results)
    figure = Figure(figsize=(9, 3.3), layout="constrained")
    exact, confident, every = figure.subplots(1, 3, sharey=True)
    panels: list[tuple[Axes, str, str, str]] = [
        (exact, "4x4", "share/all/", "16 bits: all solutions, exactly"),
        (confident, "8x8", "near/confident/", "64 bits: confident solutions"),
        (every, "8x8", "near/all/", "64 bits: all solutions"),
    ]
    for axes, part, prefix, title in panels:
        for method, (name, colour, style) in LINES.items():
            x, y = curve(rows, prefix, part, method)
            if x:
                marker = "o" if len(x) < 10 else None
                axes.plot(x, y, style, color=colour, label=name, marker=marker, markersize=3)
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
    exact.set(xscale="log", xlabel="number of images", ylabel="covered share", ylim=(0, 1.02))
    for axes, kind in ((confident, "confident"), (every, "all")):
        axes.set(
            xlabel="distance to the nearest image, bits", xlim=(10, 24), xticks=range(10, 25, 2)
        )
        if radius := pick(rows, f"radius/{kind}", part="8x8"):
            axes.axvline(radius[0], color="0.6", linewidth=0.8)
    confident.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
