"""What share of the exact solution set does a trained generator cover? `make sat-coverage`.

Shape suffixes: n images, I input bits.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from experiments.jobs import Row
from experiments.page import markdown, pick, run_experiment, shown
from experiments.run_files import number_rows
from experiments.sat_coverage.coverage import (
    codes_of,
    distinct,
    mean_distance,
    nearest_distance,
    predicted,
)
from experiments.sat_coverage.figure import draw_figure
from experiments.sat_coverage.images import (
    ZOO,
    all_solutions,
    images_of,
    network_of,
    solutions,
)
from experiments.sat_coverage.proofs import prove

HERE = Path(__file__).parent
SEEDS = (10, 11, 12)
PER_CLASS = 300
"""Images of each class of the 8 x 8 network that are compared."""
SHARE = 0.5
"""Share of the references that the uniform sample covers, which sets the radius."""
CONFIDENT = 11
"""Smallest lead of the logit, as an integer, of confident solutions: the median of real digits."""
METHODS = {
    "8x8": ("generator", "gradient", "sat", "other classes", "real digits"),
    "4x4": ("generator", "gradient", "sat", "cmsgen", "real digits"),
}
TITLES = {
    "sat": "`sat`, uniform",
    "cmsgen": "`sat`, by CMSGen",
    "generator": "`generator`",
    "gradient": "`gradient`",
    "other classes": "uniform, other classes (floor)",
    "real digits": "real training digits",
}
JOBS = [
    *(("8x8", method, SEEDS[0]) for method in METHODS["8x8"]),
    *(("proofs", "sat", label) for label in range(10)),
    *(("4x4", method, SEEDS[0]) for method in METHODS["4x4"]),
    *((part, method, seed) for seed in SEEDS[1:] for part in METHODS for method in METHODS[part]),
]


@cache
def radius(margin: int) -> int:
    """Return the distance within which uniform solutions cover half of the references."""
    pairs = zip(solutions(margin), solutions(margin, PER_CLASS, seed=2), strict=True)
    distance_n = torch.cat([nearest_distance(*pair) for pair in pairs])
    return int(distance_n.quantile(SHARE))


def by_class(part: str, bits_nI: Tensor, method: str) -> list[Tensor]:
    """Return the images that count for each class: those that the network assigns to it."""
    label_n, other = predicted(network_of(part), bits_nI), method == "other classes"
    most = PER_CLASS if part == "8x8" else len(bits_nI)
    return [
        bits_nI[(label_n != label) if other else (label_n == label)][:most] for label in range(10)
    ]


def one(part: str, method: str, seed: int) -> list[Row]:
    """Return the rows of one method, or of the proofs for a class."""
    if part == "proofs":
        return prove(ZOO, label=seed)
    bits_nI, numbers = images_of(part, method, seed)
    classes = by_class(part, bits_nI, method)
    numbers["images"] = mean(len(images_nI) for images_nI in classes)
    numbers["distance"] = mean(mean_distance(images_nI) for images_nI in classes)
    numbers["distinct"] = sum(map(distinct, classes)) / max(1, sum(map(len, classes)))
    if part == "4x4":
        numbers |= exact_shares(classes)
    else:
        for name, margin in (("all", 0), ("confident", CONFIDENT)):
            if method == "sat":  # its confident images are a sample of the confident set
                classes = solutions(margin, PER_CLASS, seed)
            numbers[f"radius/{name}"] = radius(margin)
            shares = {r: near_share(classes, margin, r) for r in range(25)}
            numbers |= {f"near/{name}/{r}": share for r, share in shares.items()}
            numbers[f"near/{name}"] = shares[radius(margin)]
    return number_rows(numbers, part=part, method=method, seed=seed)


def exact_shares(classes: list[Tensor]) -> dict[str, float]:
    """Return the shares of all solutions and of all hidden codes that occur among the images."""
    classifier = network_of("4x4")
    exact = all_solutions()

    def codes(rows_nI: Tensor) -> int:
        return distinct(codes_of(classifier, rows_nI))

    return {
        "solutions": mean(map(len, exact)),
        "share": mean(distinct(c) / len(s) for c, s in zip(classes, exact, strict=True)),
        "share_expected": mean(
            1 - (1 - 1 / len(s)) ** len(c) for c, s in zip(classes, exact, strict=True)
        ),
        "codes": mean(codes(c) / codes(s) for c, s in zip(classes, exact, strict=True)),
    }


def near_share(classes: list[Tensor], margin: int, r: int) -> float:
    """Return the share of the references within distance r of an image of their class."""
    near = [
        (nearest_distance(references_nI, images_nI) <= r).double().mean() if len(images_nI) else 0.0
        for references_nI, images_nI in zip(solutions(margin), classes, strict=True)
    ]
    return mean(float(share) for share in near)


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the tables of the page."""
    if not rows:
        return dict.fromkeys(("set-8x8", "set-4x4", "proofs"), "Not run yet.\n")
    columns = {
        "4x4": {"share": 3, "share_expected": 3, "codes": 3, "distinct": 3, "distance": 1},
        "8x8": {"near/all": 3, "near/confident": 3, "accuracy": 3, "distance": 1, "seconds": 1},
    }
    heads = {
        "share": "share of all solutions",
        "share_expected": "expected for uniform draws",
        "codes": "share of hidden codes",
        "distinct": "distinct images",
        "distance": "mean Hamming distance",
        "near/all": "covered, all solutions",
        "near/confident": "covered, confident",
        "accuracy": "accuracy",
        "seconds": "CPU seconds, 10,000 images",
    }
    made = {}
    for part, numbers in columns.items():
        lines = [
            [
                TITLES[method],
                *(
                    shown(pick(rows, name, part=part, method=method), digits)
                    for name, digits in numbers.items()
                ),
            ]
            for method in TITLES
            if method in METHODS[part]
        ]
        made[f"set-{part}"] = markdown(["images", *(heads[name] for name in numbers)], lines)
    return made | {"proofs": proof_table(rows)}


def proof_table(rows: list[Row]) -> str:
    """Return the table of proofs, one line per class and one for the total."""
    seconds = ("first", "margin", "darkest", "enumerate")
    values = {
        name: pick(rows, name, part="proofs")
        for name in ("margin", "darkest", "darkest_images", "complete")
    }
    times = [pick(rows, f"seconds/{name}", part="proofs") for name in seconds]
    lines = []
    for label, total in enumerate(map(sum, zip(*times, strict=True))):
        exactly = "" if values["complete"][label] else "more than "
        lines.append(
            [
                str(label),
                f"{values['margin'][label]:.0f}",
                f"{values['darkest'][label]:.0f}",
                f"{exactly}{values['darkest_images'][label]:,.0f}",
                *(f"{part[label]:.1f}" for part in times),
                f"{total:.1f}",
            ]
        )
    if not lines:
        return "Not run yet.\n"
    totals = [sum(part) for part in times]
    lines.append(["all", "", "", "", *(f"{t:.1f}" for t in totals), f"{sum(totals):.1f}"])
    return markdown(
        [
            "class", "largest margin", "fewest bright pixels", "such images", "first, s",
            "margin, s", "fewest, s", "enumerate, s", "total, s",
        ],
        lines,
    )  # fmt: skip


def main() -> None:
    run_experiment(__doc__, HERE, ("part", "method", "seed"), JOBS, one, tables, at_once=1)
    draw_figure(HERE / "results.csv", HERE / "coverage.png")


if __name__ == "__main__":
    main()
