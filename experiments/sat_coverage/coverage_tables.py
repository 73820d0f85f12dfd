"""Tables of the page, from the rows of results.csv."""

from __future__ import annotations

import math
from statistics import mean

from experiments.jobs import Row
from experiments.page import markdown, pick, shown

TITLES = {
    "papers": "`generator`, papers' objective",
    "papers, long": "... 1,000 steps",
    "papers, 8": "... 8 generators",
    "papers, hot": "... one-hot vectors",
    "papers, vector": "... vector, without matrix",
    "papers, spread": "... diversity terms x 10",
    "natural": "`generator`, `loss=natural`",
    "gradient": "`gradient`",
    "sat": "`sat`, uniform",
    "other classes": "uniform, other classes (floor)",
    "real digits": "real training digits",
}
COLUMNS = {
    "4x4": {
        "share/all/10000": ("all, 10,000 images", 3),
        "share/all/100000": ("all, 100,000", 3),
        "share/confident/10000": ("confident, 10,000", 3),
        "share/confident/100000": ("confident, 100,000", 3),
        "codes": ("hidden codes", 3),
        "distinct": ("distinct images", 3),
        "distance": ("mean distance", 1),
        "accuracy": ("accuracy", 3),
        "seconds": ("training, s", 0),
    },
    "8x8": {
        "near/confident": ("covered, confident", 3),
        "near/all": ("covered, all", 3),
        "distance": ("mean distance", 1),
        "accuracy": ("accuracy", 3),
        "seconds": ("training, s", 0),
        "seconds_per_1000": ("s per 1,000 images", 2),
    },
}
"""Numbers of each part, with the title and the digits of their column."""


def tables(rows: list[Row]) -> dict[str, str]:
    """Return all tables of the page by name."""
    makers = {
        "set-4x4": lambda: coverage_table(rows, "4x4"),
        "set-8x8": lambda: coverage_table(rows, "8x8"),
        "sizes": lambda: size_table(rows),
        "samplers": lambda: sampler_table(rows),
        "proofs": lambda: proof_table(rows),
    }
    return {name: make() if rows else "Not run yet.\n" for name, make in makers.items()}


def coverage_table(rows: list[Row], part: str) -> str:
    """Return the table of one network: a line for each method that was run."""
    columns, ran = COLUMNS[part], {row["method"] for row in rows if row["part"] == part}
    lines = [
        [
            TITLES[method],
            *(
                shown(pick(rows, name, part=part, method=method), digits)
                for name, (_, digits) in columns.items()
            ),
        ]
        for method in TITLES
        if method in ran
    ]
    return markdown(["images", *(title for title, _ in columns.values())], lines)


def size_table(rows: list[Row]) -> str:
    """Return CPU seconds for one image of a class, by the size of the network."""
    names = [row["part"] for row in rows if str(row["part"]).startswith("size ")]
    columns = [
        ("first", "rejection"), ("first", "solver"), ("first", "papers"), ("first", "natural"),
        ("confident", "rejection"), ("confident", "solver"), ("confident", "papers"),
        ("confident", "natural"), ("per_1000", "rejection"), ("per_1000", "papers"),
    ]  # fmt: skip
    lines = []
    for part in sorted(dict.fromkeys(names), key=_size):
        clauses = pick(rows, "clauses", part=part, method="solver")
        lines.append(
            [
                str(part).removeprefix("size "),
                "".join(f"{value:,.0f}" for value in clauses) or "-",
                *(
                    _seconds(pick(rows, name, part=part, method=method), 2)
                    for name, method in columns
                ),
            ]
        )
    return markdown(
        [
            "network", "clauses", "rejection, ten images", "solver, an image",
            "papers, to 0.95", "natural, to 0.95", "confident: rejection", "solver", "papers",
            "natural", "1,000 images: rejection", "papers",
        ],
        lines,
    )  # fmt: skip


def sampler_table(rows: list[Row]) -> str:
    """Return how uniform the samplers are, and their CPU seconds."""
    columns = {
        "statistic": ("statistic / degrees of freedom", 2),
        "p": ("p", 3),
        "missed": ("solutions missed", 3),
        "seconds_per_1000": ("s per 1,000 draws", 2),
        "seconds_large": ("64 bits, s per draw", 3),
    }
    names = dict.fromkeys(row["method"] for row in rows if row["part"] == "samplers")
    lines = [
        [
            str(name),
            *(
                (_seconds if number.startswith("seconds") else shown)(
                    pick(rows, number, part="samplers", method=name), digits
                )
                for number, (_, digits) in columns.items()
            ),
        ]
        for name in names
    ]
    return markdown(["sampler", *(title for title, _ in columns.values())], lines)


def proof_table(rows: list[Row]) -> str:
    """Return the largest margin of each class, beside the largest lead of a real digit."""
    titles = {"margin": "largest margin, proved", "real": "largest of real digits"}
    lines = [
        [
            title,
            *(
                "".join(f"{value:.0f}" for value in pick(rows, f"{name}/{label}", part="proofs"))
                for label in range(10)
            ),
        ]
        for name, title in titles.items()
    ]
    return markdown(["class", *map(str, range(10))], lines)


def _seconds(values: list[float], digits: int = 1) -> str:
    """Return a mean of seconds; more than the limit, or never reached, is marked."""
    if not values:
        return "-"
    value, least = mean(values), 10**-digits
    if math.isinf(value):
        return "not reached"
    return f"{value:.{digits}f}" if value >= least else f"< {least:.{digits}f}"


def _size(part: str) -> tuple[int, ...]:
    """Return the sides and the widths of a network, by which the lines are ordered."""
    sides, _, widths = str(part).removeprefix("size ").partition(", ")
    numbers = [int(number) for number in (widths or "24").split("-")]
    return int(sides.partition("x")[0]), len(numbers), *numbers
