"""CPU seconds of the solver and of a generator for binarised networks of growing size."""

from __future__ import annotations

import math
import time

import torch

from experiments.jobs import Row
from experiments.run_files import number_rows
from experiments.sat_coverage.coverage import lead, predicted
from experiments.sat_coverage.images import OVERRIDES, STEPS, drawn, real_digits, trained_generator
from experiments.sat_coverage.limited import within
from experiments.sat_coverage.networks import network_of
from netinv_lightning.classifiers.binarised import BinarisedMLP, integer_layers
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.methods.cnf import NetworkCnf
from netinv_lightning.inversion.methods.sat import SatInversion
from netinv_lightning.inversion.methods.sat_models import first_model

SIZES = ("8x8", "8x8, 64", "8x8, 128", "8x8, 256", "8x8, 64-64", "14x14, 64")
CLASSES = (0, 1)
"""Classes for which a solution is searched."""
BLOCK, BLOCKS = 20_000, 10
"""Random inputs in a block, and blocks, among which confident ones are counted."""
LIMIT = 30
"""CPU seconds after which the search for a solution is stopped."""


def measure(name: str, method: str, seed: int) -> list[Row]:
    """Return the rows of one way to get images of one network."""
    network_of(name)  # trains it, which is no cost of the method
    ways = {"rejection": by_rejection, "solver": by_solver}
    way = ways.get(method, by_generator)
    return number_rows(way(name, method, seed), part=f"size {name}", method=method, seed=seed)


def by_rejection(name: str, method: str, seed: int) -> dict[str, float]:
    """Return CPU seconds by rejection: one image of each class, 1,000, one confident image."""
    classifier = network_of(name)
    sat = SatInversion(Conditioning(10, classifier.spec.image_size), classifier)
    torch.manual_seed(seed)
    start = time.process_time()
    sat.draw(sat.conditioning.of_labels(torch.arange(10)))
    first = time.process_time() - start
    sat.draw(sat.conditioning.of_labels(torch.arange(1000) % 10))
    numbers = {"first": first, "per_1000": time.process_time() - start - first}
    if (margin := confident_lead(name)) is not None:
        start, found = time.process_time(), 0
        for _ in range(BLOCKS):
            bits_nI = 2 * torch.randint(2, (BLOCK, sat.inputs)) - 1
            found += int((lead(classifier, bits_nI) >= margin).sum())
        seconds = time.process_time() - start
        numbers["confident"] = seconds / found if found else float("inf")
    return numbers


def by_solver(name: str, method: str, seed: int) -> dict[str, float]:
    """Return the CPU seconds of CaDiCaL per class: for any solution, and for a confident one."""
    numbers: dict[str, float] = {"clauses": len(formula_of(name).hidden.clauses)}
    for kind, margin in (("first", 0), ("confident", confident_lead(name))):
        if margin is not None:
            seconds = [within(LIMIT, solve, name, label, margin) or math.inf for label in CLASSES]
            numbers[kind] = sum(seconds) / len(seconds)
    return numbers


def by_generator(name: str, loss: str, seed: int) -> dict[str, float]:
    """Return CPU seconds of training until an accuracy of 0.95, of drawing, of a confident image.

    The last one includes the whole training and the drawing of as many images as it takes.
    """
    inversion, seconds = trained_generator(name, OVERRIDES[loss], seed)
    reached = inversion.cost().reached
    start = time.process_time()
    bits_nI, label_n = drawn(inversion, 1000, seed)
    numbers = {
        "first": seconds * reached[0] / STEPS if reached else float("inf"),
        "per_1000": time.process_time() - start,
        "accuracy": float((predicted(inversion.classifier, bits_nI) == label_n).double().mean()),
    }
    if (margin := confident_lead(name)) is not None:
        share = float((lead(inversion.classifier, bits_nI) >= margin).double().mean())
        numbers["confident_share"] = share
        numbers["confident"] = (
            seconds + numbers["per_1000"] / 1000 / share if share else float("inf")
        )
    return numbers


def confident_lead(name: str) -> int | None:
    """Return the median lead of real digits; None for 14 x 14 pixels, which need a download."""
    if not name.startswith("8x8"):
        return None
    return int(lead(network_of(name), real_digits(name)).median())


def formula_of(name: str) -> NetworkCnf:
    """Return the formula of a network, without a class."""
    network = network_of(name).network
    assert isinstance(network, BinarisedMLP)
    return NetworkCnf(integer_layers(network))


def solve(name: str, label: int, margin: int) -> float:
    """Return the CPU seconds of the formula and of the search for one solution."""
    network_of(name)
    start = time.process_time()
    formula = formula_of(name)
    first_model(formula.of_class(label, margin), formula.inputs)
    return time.process_time() - start
