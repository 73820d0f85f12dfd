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
from experiments.page import run_experiment
from experiments.run_files import number_rows
from experiments.sat_coverage import coverage_tables
from experiments.sat_coverage.coverage import (
    codes_of,
    covered,
    distinct,
    every_input,
    mean_distance,
    nearest_distance,
    numbers_of,
    predicted,
)
from experiments.sat_coverage.figure import draw_figure
from experiments.sat_coverage.images import (
    exact_solutions,
    images_of,
    median_lead,
    solutions,
)
from experiments.sat_coverage.networks import network_of
from experiments.sat_coverage.proofs import certify, enumerate_class
from experiments.sat_coverage.samplers import CLASSES, SAMPLERS, compare
from experiments.sat_coverage.sizes import SIZES, measure

HERE = Path(__file__).parent
SEEDS = (10, 11, 12)
PER_CLASS = 300
"""Images of each class of the 8 x 8 network that are compared."""
SHARE = 0.5
"""Share of the references that the uniform sample covers, which sets the radius."""
COUNTS = (1_000, 3_000, 10_000, 30_000, 100_000)
"""Numbers of images whose share of all solutions is measured."""
METHODS = {
    "4x4": (
        "papers", "papers, long", "papers, 8", "papers, hot", "papers, vector", "papers, spread",
        "natural", "gradient", "sat", "real digits",
    ),
    "8x8": ("papers", "natural", "gradient", "sat", "other classes", "real digits"),
}  # fmt: skip
WAYS = ("rejection", "solver", "papers", "natural")
JOBS = [
    *(("4x4", method, seed) for seed in SEEDS for method in METHODS["4x4"]),
    *(("8x8", method, SEEDS[0]) for method in METHODS["8x8"]),
    *(("samplers", name, label) for label in CLASSES for name in SAMPLERS),
    *((f"size {name}", way, SEEDS[0]) for way in WAYS for name in SIZES),
    ("proofs", "sat", 0),
    ("enumeration", "sat", 1),
    *(("8x8", method, seed) for seed in SEEDS[1:] for method in METHODS["8x8"]),
]


def one(part: str, method: str, seed: int) -> list[Row]:
    """Return the rows of one job; for samplers and enumeration the seed is the class."""
    if part == "proofs":
        return certify()
    if part == "enumeration":
        return enumerate_class(seed)
    if part == "samplers":
        return compare(method, seed)
    if part.startswith("size "):
        return measure(part.removeprefix("size "), method, seed)
    bits_nI, numbers = images_of(part, method, seed)
    measured = exact_shares(bits_nI) if part == "4x4" else near_shares(bits_nI, method, seed)
    return number_rows(numbers | measured, part=part, method=method, seed=seed)


def exact_shares(bits_nI: Tensor) -> dict[str, float]:
    """Return the shares of all solutions and of all hidden codes that occur among the images."""
    numbers = {}
    for kind, confident in (("all", False), ("confident", True)):
        for count in (count for count in COUNTS if count <= len(bits_nI)):
            number_n = numbers_of(bits_nI[:count])
            shares = [covered(number_n, solution_S) for solution_S in exact_solutions(confident)]
            numbers[f"share/{kind}/{count}"] = mean(shares)
        number_n = numbers_of(bits_nI)
        shares = [covered(number_n, solution_S) for solution_S in exact_solutions(confident)]
        numbers |= {f"share/{kind}": mean(shares), f"worst/{kind}": min(shares)}
    classifier, all_nI = network_of("4x4"), every_input(16)
    codes = distinct(codes_of(classifier, bits_nI)) / distinct(codes_of(classifier, all_nI))
    return numbers | {
        "codes": codes,
        "distinct": distinct(bits_nI) / len(bits_nI),
        "distance": class_distance("4x4", bits_nI),
    }


def near_shares(bits_nI: Tensor, method: str, seed: int) -> dict[str, float]:
    """Return the shares of uniform solutions of the 8 x 8 network that are near an image."""
    classes = by_class(bits_nI, method)
    numbers = {
        "images": min(len(images_nI) for images_nI in classes),
        "distance": class_distance("8x8", bits_nI),
    }
    for kind, margin in (("all", 0), ("confident", median_lead("8x8"))):
        if method == "sat":  # its confident images are a sample of the confident set
            classes = solutions(margin, PER_CLASS, seed)
        numbers[f"radius/{kind}"] = radius(margin)
        shares = {r: near_share(classes, margin, r) for r in range(25)}
        numbers |= {f"near/{kind}/{r}": share for r, share in shares.items()}
        numbers[f"near/{kind}"] = shares[radius(margin)]
    return numbers


@cache
def radius(margin: int) -> int:
    """Return the distance within which uniform solutions cover half of the references."""
    pairs = zip(solutions(margin), solutions(margin, PER_CLASS, seed=2), strict=True)
    distance_n = torch.cat([nearest_distance(*pair) for pair in pairs])
    return int(distance_n.quantile(SHARE))


def by_class(bits_nI: Tensor, method: str) -> list[Tensor]:
    """Return the images that count for each class: those that the network assigns to it."""
    label_n, other = predicted(network_of("8x8"), bits_nI), method == "other classes"
    return [
        bits_nI[(label_n != label) if other else (label_n == label)][:PER_CLASS]
        for label in range(10)
    ]


def class_distance(part: str, bits_nI: Tensor) -> float:
    """Return the mean Hamming distance of two images of the same class."""
    label_n = predicted(network_of(part), bits_nI)
    return mean(mean_distance(bits_nI[label_n == label]) for label in range(10))


def near_share(classes: list[Tensor], margin: int, r: int) -> float:
    """Return the share of the references within distance r of an image of their class."""
    near = [
        (nearest_distance(references_nI, images_nI) <= r).double().mean() if len(images_nI) else 0.0
        for references_nI, images_nI in zip(solutions(margin), classes, strict=True)
    ]
    return mean(float(share) for share in near)


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the tables of the page."""
    return coverage_tables.tables(rows)


def main() -> None:
    run_experiment(__doc__, HERE, ("part", "method", "seed"), JOBS, one, tables, at_once=1)
    draw_figure(HERE / "results.csv", HERE / "coverage.png")


if __name__ == "__main__":
    main()
