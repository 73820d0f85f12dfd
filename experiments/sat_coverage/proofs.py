"""What the solver proves about each class of the 8 x 8 network, and in how many CPU seconds."""

from __future__ import annotations

import time

from experiments.jobs import Row
from experiments.run_files import number_rows
from netinv_lightning.classifiers.binarised import BinarisedMLP, integer_layers
from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.inversion.methods.cnf import Cnf, NetworkCnf, keep_between
from netinv_lightning.inversion.methods.sat_models import (
    all_models,
    first_model,
    largest_margin,
    random_models,
)

SAMPLED = 2
"""Images that CMSGen draws for the time of one."""


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


def prove(name: str, label: int) -> list[Row]:
    """Return the numbers of one class: margins, darkest images, and CPU seconds."""
    classifier = load_zoo(name)
    assert isinstance(classifier.network, BinarisedMLP)
    start = time.process_time()
    network = NetworkCnf(integer_layers(classifier.network))
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
    numbers["darkest"], cnf = darkest(network, label)
    lap("darkest")
    found_nI, complete = all_models(cnf, network.inputs, limit=10_000)
    numbers["darkest_images"], numbers["complete"] = len(found_nI), float(complete)
    lap("enumerate")
    random_models(network.of_class(label), network.inputs, SAMPLED, seed=label)
    lap("cmsgen")
    numbers["seconds/cmsgen"] /= SAMPLED
    return number_rows(numbers, part="proofs", method="sat", seed=label)
