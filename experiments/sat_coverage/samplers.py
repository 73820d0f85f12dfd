"""Three samplers of solutions against the uniform distribution over all solutions.

The set is that of the confident solutions of a class of the network with 16 inputs, which is known
exactly. Uniform draws give Pearson's statistic of the counts, divided by its degrees of freedom, a
mean of 1.

Shape suffixes: n draws, I input bits, S solutions.
"""

from __future__ import annotations

import math
import time
from importlib import import_module

import torch
from torch import Tensor

from experiments.jobs import Row
from experiments.run_files import number_rows
from experiments.sat_coverage.coverage import numbers_of
from experiments.sat_coverage.images import exact_solutions, median_lead
from experiments.sat_coverage.limited import within
from experiments.sat_coverage.networks import network_of
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.methods.cnf import Cnf
from netinv_lightning.inversion.methods.sat import SatInversion
from netinv_lightning.inversion.methods.sat_models import random_models

PER_SOLUTION = 10
"""Draws for each solution of a set; the expected count of each solution."""
CLASSES = (1,)
"""Classes that are compared: the one with the fewest confident solutions."""
LIMIT = 100
"""CPU seconds after which a sampler is stopped."""
LARGE = 2
"""Draws from the 8 x 8 network, whose set is too large to compare counts."""


def method_of(part: str, margin: int) -> SatInversion:
    """Return the method for the solutions of a network with a margin."""
    classifier: FrozenClassifier = network_of(part)
    return SatInversion(Conditioning(10, classifier.spec.image_size), classifier, margin=margin)


def by_rejection(method: SatInversion, label: int, count: int) -> Tensor:
    """Return exactly uniform draws [n, I]: those of `method=sat` for common solutions."""
    torch.manual_seed(label)
    images = method.draw(method.conditioning.of_labels(torch.full((count,), label)))
    return (2 * images - 1).flatten(1).round().long()


def by_cmsgen(method: SatInversion, label: int, count: int) -> Tensor:
    """Return draws [n, I] of CMSGen."""
    return random_models(method.formula(label), method.inputs, count, seed=label)


def by_unigen(method: SatInversion, label: int, count: int) -> Tensor:
    """Return draws [n, I] of UniGen3, almost uniform with the default tolerance."""
    formula: Cnf = method.formula(label)
    sampler = import_module("pyunigen").Sampler(seed=label + 1)
    for clause in formula.clauses:
        sampler.add_clause(clause)
    inputs = [*range(1, method.inputs + 1)]
    *_, samples = sampler.sample(num=count, sampling_set=inputs)
    return torch.tensor([[int(literal > 0) for literal in sample] for sample in samples]) * 2 - 1


SAMPLERS = {"rejection": by_rejection, "CMSGen": by_cmsgen, "UniGen3": by_unigen}


def draw_large(name: str, label: int) -> float:
    """Return the CPU seconds of a few draws from the 8 x 8 network, formula included."""
    method = method_of("8x8", margin=0)
    start = time.process_time()
    SAMPLERS[name](method, label, LARGE)
    return time.process_time() - start


def judge(number_n: Tensor, solution_S: Tensor) -> dict[str, float]:
    """Return how uniform draws are: Pearson's statistic, its p-value, and the solutions missed."""
    from scipy.stats import chi2

    found_n = torch.searchsorted(solution_S, number_n)
    assert torch.equal(solution_S[found_n.clamp(max=len(solution_S) - 1)], number_n)
    count_S = found_n.bincount(minlength=len(solution_S)).double()
    expected, freedom = len(number_n) / len(solution_S), len(solution_S) - 1
    statistic = float(((count_S - expected) ** 2 / expected).sum())
    return {
        "statistic": statistic / freedom,
        "p": float(chi2.sf(statistic, freedom)),
        "missed": float((count_S == 0).double().mean()),
        "solutions": len(solution_S),
    }


def draw_small(name: str, label: int) -> dict[str, float]:
    """Return how uniform the draws from a known set are, and their CPU seconds."""
    method, solution_S = method_of("4x4", median_lead("4x4")), exact_solutions(True)[label]
    count, start = PER_SOLUTION * len(solution_S), time.process_time()
    bits_nI = SAMPLERS[name](method, label, count)
    seconds = time.process_time() - start
    return judge(numbers_of(bits_nI[:count]), solution_S) | {
        "seconds_per_1000": seconds / len(bits_nI) * 1000
    }


def compare(name: str, label: int) -> list[Row]:
    """Return the rows of a sampler for one class; seconds are infinite at the limit."""
    numbers = within(LIMIT, draw_small, name, label) or {"seconds_per_1000": math.inf}
    numbers["seconds_large"] = (within(LIMIT, draw_large, name, label) or math.inf) / LARGE
    return number_rows(numbers, part="samplers", method=name, seed=label)
