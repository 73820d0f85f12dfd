"""What the solver proves: the largest margins of the 8 x 8 network, and all inputs of a class."""

from __future__ import annotations

import re
import resource
import subprocess
import time
from tempfile import TemporaryDirectory

import torch

from experiments.jobs import NETINV, ROOT, Row
from experiments.run_files import number_rows
from experiments.sat_coverage.coverage import lead, numbers_of, predicted
from experiments.sat_coverage.images import exact_solutions, real_digits
from experiments.sat_coverage.networks import choice, network_of
from netinv_lightning.classifiers.binarised import BinarisedMLP, integer_layers
from netinv_lightning.inversion.methods.cnf import NetworkCnf
from netinv_lightning.inversion.methods.sat_models import all_models


def certify() -> list[Row]:
    """Return the largest margin of each class, as the command prints it, and its CPU seconds."""
    with TemporaryDirectory() as folder:
        before = _seconds_of_commands()
        command = ("application=invert", *choice("8x8"), "method=sat", "method.certify=true")
        done = subprocess.run(
            [*NETINV, *command, f"output={folder}"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    numbers = {"seconds": _seconds_of_commands() - before}
    bits_nI, classifier = real_digits("8x8"), network_of("8x8")
    label_n, lead_n = predicted(classifier, bits_nI), lead(classifier, bits_nI)
    for label, margin in re.findall(r"class (\d+) has a margin of at most (\d+)", done.stderr):
        numbers[f"margin/{label}"] = int(margin)
        numbers[f"real/{label}"] = int(lead_n[label_n == int(label)].max())
    return number_rows(numbers, part="proofs", method="sat", seed=0)


def enumerate_class(label: int) -> list[Row]:
    """Return the number of solutions of a class of the 4 x 4 network, and CPU seconds.

    Raises:
        AssertionError: If the solver finds other solutions than the evaluation of all inputs.
    """
    network = network_of("4x4").network
    assert isinstance(network, BinarisedMLP)
    start = time.process_time()
    formula = NetworkCnf(integer_layers(network))
    found_nI, _ = all_models(formula.of_class(label), formula.inputs)
    seconds = time.process_time() - start
    assert torch.equal(numbers_of(found_nI).sort().values, exact_solutions(False)[label])
    numbers = {"solutions": len(found_nI), "seconds": seconds}
    return number_rows(numbers, part="enumeration", method="sat", seed=label)


def _seconds_of_commands() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
