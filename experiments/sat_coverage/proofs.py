"""What the solver proves about each class of the 8 x 8 network, and in how many CPU seconds."""

from __future__ import annotations

import time

import torch

from experiments.jobs import Row
from experiments.run_files import number_rows
from experiments.sat_coverage.coverage import numbers_of
from experiments.sat_coverage.images import exact_solutions
from experiments.sat_coverage.networks import network_of
from netinv_lightning.classifiers.binarised import BinarisedMLP, integer_layers
from netinv_lightning.inversion.methods.cnf import Cnf, NetworkCnf, keep_between
from netinv_lightning.inversion.methods.sat_models import all_models, first_model, largest_margin

MOST = 1000
"""Largest number of images that are enumerated."""


def formula_of(part: str) -> NetworkCnf:
    """Return the formula of a network."""
    network = network_of(part).network
    assert isinstance(network, BinarisedMLP)
    return NetworkCnf(integer_layers(network))


def darkest(network: NetworkCnf, label: int) -> tuple[int, Cnf]:
    """Return the smallest number of bright pixels of a class, and the formula of such images.

    The formula for one pixel less is unsatisfiable.
    """
    for bright in range(network.inputs + 1):
        cnf = network.of_class(label)
        keep_between(cnf, range(1, network.inputs + 1), lowest=None, highest=bright)
        if first_model(cnf, network.inputs) is not None:
            return bright, cnf
    raise RuntimeError(f"class {label} has no input")


def prove(label: int) -> list[Row]:
    """Return the numbers of one class: margins, darkest images, and CPU seconds."""
    start = time.process_time()
    network = formula_of("8x8")
    numbers: dict[str, float] = {}

    def lap(part: str) -> None:
        nonlocal start
        numbers[f"seconds/{part}"] = time.process_time() - start
        start = time.process_time()

    first_model(network.of_class(label), network.inputs)
    lap("first")
    best = largest_margin(network, label)
    assert best is not None
    numbers["margin"] = best[0]
    lap("margin")
    found_nI, complete = all_models(network.of_class(label, best[0]), network.inputs, MOST)
    numbers["margin_images"], numbers["margin_complete"] = len(found_nI), float(complete)
    lap("margin_enumerate")
    numbers["darkest"], cnf = darkest(network, label)
    lap("darkest")
    found_nI, complete = all_models(cnf, network.inputs, MOST)
    numbers["darkest_images"], numbers["complete"] = len(found_nI), float(complete)
    lap("enumerate")
    return number_rows(numbers, part="proofs", method="sat", seed=label)


def enumerate_all(label: int) -> list[Row]:
    """Return the number of solutions of a class of the 4 x 4 network, and CPU seconds.

    Raises:
        AssertionError: If the solver finds other solutions than the evaluation of all inputs.
    """
    start = time.process_time()
    network = formula_of("4x4")
    found_nI, _ = all_models(network.of_class(label), network.inputs)
    seconds = time.process_time() - start
    assert torch.equal(numbers_of(found_nI).sort().values, exact_solutions(False)[label])
    numbers = {"solutions": len(found_nI), "confident": len(exact_solutions(True)[label])}
    return number_rows(numbers | {"seconds": seconds}, part="enumeration", method="sat", seed=label)
