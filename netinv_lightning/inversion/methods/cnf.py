"""A binarised network as a formula in conjunctive normal form (CNF), without any approximation.

Pixel i is variable i: true for +1, false for -1. A neuron is true where

    sum_i w_i s_i + t >= 0   <=>   at least k = ceil((n - t) / 2) of its n literals are true,

with the literal x_i for w_i = +1 and not x_i for w_i = -1. Class c is requested by comparisons of
integers: logit_c - logit_k is twice a sum over those features whose weights differ. So each
comparison is one more such constraint. Such reified cardinality constraints are also what Jia and
Rinard (2020, NeurIPS, "Efficient Exact Verification of Binarized Neural Networks") verify.

Every auxiliary variable is defined by an equivalence, so each input has exactly one model. The
number of models is then the number of inputs, and a sampler that is uniform over models is uniform
over inputs. The encodings of `pysat.card` imply one direction only, which leaves several models for
an input; the totalizer here (Bailleux and Boufkhad 2003) implies both.

Shape suffixes: O outputs and I inputs of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from netinv_lightning.classifiers.binarised import IntegerLayer

Clause = list[int]


class Cnf:
    """Clauses over variables 1, 2, ...; a literal is a variable, or minus a variable.

    Args:
        variables: Number of variables that exist already.

    Attributes:
        clauses: All clauses so far.
        variables: Number of variables so far.
    """

    def __init__(self, variables: int) -> None:
        self.variables = variables
        self.clauses: list[Clause] = []

    def new(self) -> int:
        """Return a new variable."""
        self.variables += 1
        return self.variables

    def copy(self) -> Cnf:
        """Return a formula to which clauses can be added without changing this one."""
        copied = Cnf(self.variables)
        copied.clauses = [*self.clauses]
        return copied

    def constant(self, value: bool) -> int:
        """Return a literal that has this value in each model."""
        literal = self.new()
        self.clauses.append([literal if value else -literal])
        return literal

    def at_least(self, literals: Sequence[int], k: int) -> int:
        """Return a literal that is true if and only if at least k of the literals are."""
        n = len(literals)
        if k <= 0 or k > n:
            return self.constant(k <= 0)
        if k > n - k + 1:  # counting the false ones takes fewer variables
            return -self.at_least([-literal for literal in literals], n - k + 1)
        return self._count(literals, k)[k - 1]

    def _count(self, literals: Sequence[int], most: int) -> Sequence[int]:
        """Return literals r_1 to r_m, m <= most: r_j is true iff at least j literals are true."""
        n = len(literals)
        if n <= 1:
            return literals[:most]
        half = n // 2
        a, b = self._count(literals[:half], most), self._count(literals[half:], most)
        r = [self.new() for _ in range(min(most, n))]
        for i in range(len(a) + 1):
            for j in range(len(b) + 1):
                if 0 < i + j <= len(r):  # i and j are reached, so i + j is
                    left, right = [-a[i - 1]] if i else [], [-b[j - 1]] if j else []
                    self.clauses.append([*left, *right, r[i + j - 1]])
                if i + j < len(r):  # neither i + 1 nor j + 1 is reached, so i + j + 1 is not
                    left, right = [*a[i : i + 1]], [*b[j : j + 1]]
                    self.clauses.append([*left, *right, -r[i + j]])
        return r


class NetworkCnf:
    """The formula of a network, to which the requested class is added.

    Args:
        layers: The integer form of the network.

    Attributes:
        inputs: Number of input bits I; they are the variables 1 to I.
    """

    def __init__(self, layers: Sequence[IntegerLayer]) -> None:
        self.inputs = layers[0].weight_OI.shape[1]
        self.hidden = Cnf(self.inputs)
        self.features = [*range(1, self.inputs + 1)]
        for layer in layers[:-1]:
            rows, thresholds = layer.weight_OI.tolist(), layer.bias_O.tolist()
            self.features = [
                _sum_at_least(self.hidden, self.features, row, -threshold)
                for row, threshold in zip(rows, thresholds, strict=True)
            ]
        self.weights, self.biases = layers[-1].weight_OI.tolist(), layers[-1].bias_O.tolist()

    def of_class(self, label: int, margin: int = 0) -> Cnf:
        """Return the formula whose models are the inputs to which the network assigns a class.

        Args:
            label: The class. If several logits are the largest, the first of these classes is
                predicted, as by `torch.argmax`.
            margin: The logit of the class exceeds every other by at least this integer.
        """
        cnf = self.hidden.copy()
        for other, (row, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if other != label:
                # sum_i (w_label - w_other)_i s_i >= least, where each factor is 0, +2 or -2
                least = max(margin, int(other < label)) - (self.biases[label] - bias)
                own = self.weights[label]
                signs = [(mine - its) // 2 for mine, its in zip(own, row, strict=True)]
                cnf.clauses.append([_sum_at_least(cnf, self.features, signs, -(-least // 2))])
        return cnf

    def largest_possible_margin(self, label: int) -> int:
        """Return a bound of the margin of a class, without solving: that of ideal features."""
        own = self.weights[label]
        return min(
            2 * sum(mine != its for mine, its in zip(own, row, strict=True))
            + self.biases[label] - bias
            for other, (row, bias) in enumerate(zip(self.weights, self.biases, strict=True))
            if other != label
        )  # fmt: skip


def _sum_at_least(cnf: Cnf, literals: Sequence[int], signs: Sequence[int], least: int) -> int:
    """Return a literal for sum_i signs_i s_i >= least, with signs of 0, +1 and -1."""
    counted = [sign * x for x, sign in zip(literals, signs, strict=True) if sign]
    return cnf.at_least(counted, -(-(least + len(counted)) // 2))


def keep_between(cnf: Cnf, bits: Sequence[int], lowest: int | None, highest: int | None) -> None:
    """Add the constraint that at least `lowest` and at most `highest` of the bits are +1."""
    if lowest is not None:
        cnf.clauses.append([cnf.at_least(bits, lowest)])
    if highest is not None:
        cnf.clauses.append([-cnf.at_least(bits, highest + 1)])


def one_of_each(cnf: Cnf, groups: Sequence[Sequence[int]]) -> None:
    """Add the constraint that exactly one feature of each group, counted from 0, is +1."""
    for group in groups:
        bits = [feature + 1 for feature in group]
        cnf.clauses.append(bits)
        cnf.clauses += [[-one, -other] for one, other in combinations(bits, 2)]
