"""Models of a formula: one, all, or random ones; or the proof that there is none.

Shape suffixes: n models, I input bits.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from netinv_lightning.inversion.methods.cnf import Cnf, NetworkCnf

SOLVER = "cadical153"
"""The solver of python-sat for proofs and enumeration."""


def first_model(cnf: Cnf, inputs: int) -> Tensor | None:
    """Return the input bits [I] of one model, +1 and -1; None if there is provably none."""
    return next(_models(cnf, inputs), None)


def all_models(cnf: Cnf, inputs: int, limit: int | None = None) -> tuple[Tensor, bool]:
    """Return the input bits of all models [n, I], and whether these are all.

    A blocking clause forbids each one that was found, until the formula is unsatisfiable.

    Args:
        cnf: The formula.
        inputs: Number of input bits I.
        limit: Largest number of models; None for all.
    """
    models = _models(cnf, inputs)
    found = [*islice(models, limit)]
    complete = limit is None or len(found) < limit or next(models, None) is None
    return torch.stack(found) if found else torch.empty(0, inputs, dtype=torch.long), complete


def random_models(cnf: Cnf, inputs: int, count: int, seed: int) -> Tensor:
    """Return the input bits of random models [n, I], with repetition; the formula must have one.

    CMSGen (Golia, Soos, Chakraborty and Meel 2021, "Designing samplers is easy: the boon of
    testers") is a solver with random decisions. It gives no guarantee that all models are equally
    likely, unlike UniGen3.
    """
    from pycmsgen import Solver

    solver = Solver(seed=seed)
    solver.add_clauses(_flat(cnf.clauses))
    # Bits that no clause contains are free, and the solver does not know them.
    bits_nI = torch.randint(2, (count, inputs), generator=_random(seed))
    used = {abs(literal) for clause in cnf.clauses for literal in clause}
    known = [variable for variable in range(1, inputs + 1) if variable in used]
    for bits_I in bits_nI:
        satisfiable, model = solver.solve()
        assert satisfiable, "the formula has no model"
        bits_I[torch.tensor(known) - 1] = torch.tensor([model[x] for x in known]).long()
    return 2 * bits_nI - 1


def largest_margin(network: NetworkCnf, label: int) -> tuple[int, Tensor] | None:
    """Return the largest margin of a class and an input [I] with it; None if it has no input.

    No input has a larger margin: either no features allow it, or the formula for a margin that is
    larger by 1 is unsatisfiable. The search tries the bound of the features first, then halves the
    interval between a margin that was found and one that is impossible.
    """
    bits_I = first_model(network.of_class(label), network.inputs)
    if bits_I is None:
        return None
    found, margin = 0, network.largest_possible_margin(label)  # which is often reached
    impossible = margin + 1
    while impossible - found > 1:
        larger_I = first_model(network.of_class(label, margin), network.inputs)
        if larger_I is None:
            impossible = margin
        else:
            found, bits_I = margin, larger_I
        margin = (found + impossible) // 2
    return found, bits_I


def _models(cnf: Cnf, inputs: int) -> Iterator[Tensor]:
    """Yield the input bits [I] of each model once."""
    from pysat.solvers import Solver

    with Solver(name=SOLVER, bootstrap_with=cnf.clauses) as solver:
        while (literals := _next_model(solver, inputs)) is not None:
            yield torch.tensor(literals).sign()
            solver.add_clause([-literal for literal in literals])


def _next_model(solver: Any, inputs: int) -> list[int] | None:
    """Return the literals of the inputs in a model; None if there is none."""
    if not solver.solve():
        return None
    # A variable that no clause contains is missing in the model; it is false there.
    true = set(solver.get_model() or ())
    return [x if x in true else -x for x in range(1, inputs + 1)]


def _random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _flat(clauses: Sequence[Sequence[int]]) -> array[int]:
    """Return clauses one after another, each with a 0 at its end."""
    return array("i", (literal for clause in clauses for literal in (*clause, 0)))
