"""CPU seconds of the solver and of a generator for binarised networks of growing size."""

from __future__ import annotations

import time

import torch

from experiments.jobs import Row
from experiments.run_files import number_rows
from experiments.sat_coverage.coverage import lead
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
LIMIT = 30
"""CPU seconds after which the search for a solution is stopped."""


def measure(name: str, method: str, seed: int) -> list[Row]:
    """Return the rows of one way to get images of one network."""
    network_of(name)  # trains it, which is no cost of the method
    ways = {"rejection": by_rejection, "solver": by_solver}
    way = ways.get(method, by_generator)
    return number_rows(way(name, method, seed), part=f"size {name}", method=method, seed=seed)


def by_rejection(name: str, method: str, seed: int) -> dict[str, float]:
    """Return the CPU seconds for one solution of each class, and for 1,000, by rejection."""
    classifier = network_of(name)
    sat = SatInversion(Conditioning(10, classifier.spec.image_size), classifier)
    torch.manual_seed(seed)
    start = time.process_time()
    sat.draw(sat.conditioning.of_labels(torch.arange(10)))
    first = time.process_time() - start
    sat.draw(sat.conditioning.of_labels(torch.arange(1000) % 10))
    return {"first": first, "per_1000": time.process_time() - start - first}


def by_solver(name: str, method: str, seed: int) -> dict[str, float]:
    """Return the CPU seconds of CaDiCaL per class: for any solution, and for a confident one."""
    classifier = network_of(name)
    assert isinstance(classifier.network, BinarisedMLP)
    start = time.process_time()
    network = NetworkCnf(integer_layers(classifier.network))
    numbers = {"formula": time.process_time() - start, "clauses": len(network.hidden.clauses)}
    margins = {"first": 0}
    if name.startswith("8x8"):  # the real digits of 14 x 14 pixels need a download
        margins["confident"] = int(lead(classifier, real_digits(name)).median())
    for kind, margin in margins.items():
        seconds = [within(LIMIT, _solve, network, label, margin)[1] for label in CLASSES]
        numbers[f"{kind}/worst"] = max(seconds)
        numbers[kind] = sum(seconds) / len(seconds)
    return numbers


def by_generator(name: str, loss: str, seed: int) -> dict[str, float]:
    """Return the CPU seconds of training until an inversion accuracy of 0.95, and of drawing."""
    inversion, seconds = trained_generator(name, OVERRIDES[loss], seed)
    reached = inversion.cost().reached
    start = time.process_time()
    drawn(inversion, 1000, seed)
    return {
        "first": seconds * reached[0] / STEPS if reached else float("inf"),
        "per_1000": time.process_time() - start,
    }


def _solve(network: NetworkCnf, label: int, margin: int) -> bool:
    return first_model(network.of_class(label, margin), network.inputs) is not None
