"""Rules for a classifier's classes: conjunctions of half-spaces of tangent hyperplanes.

The rules follow Saad and Wunsch (HYPINV, Neural Networks 20(1), 2007): a sample is in a class if
all half-spaces of one of the class's rules hold. The hyperplanes come from `boundary.py`; this
module selects a few of them for each rule. A half-space of a class is the side of a hyperplane on
which the class lies: the inside of its own hyperplanes, or the outside of a hyperplane that
separates another class from it.

In pixel space, as in the paper, a tangent is exact near its point and approximate further away. In
feature space the linear head itself is exact, with fidelity 1, so rules cannot be more faithful;
they show how few of the N - 1 hyperplanes of a class are needed. A hyperplane between two classes
does not concern a third class. Short rules of such hyperplanes therefore overlap, and often the
margins decide (`Fidelity.ambiguous`). Rules of hyperplanes against all other classes overlap less.

Shape suffixes: n samples, h hyperplanes, X coordinates of a sample (features or pixels), L
half-spaces, R rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from netinv_lightning.errors import InputError
from netinv_lightning.interpretability.boundary import REST, Hyperplanes, present_classes

MIN_GAIN = 0.01
"""Smallest gain of one more half-space or rule, as a share of the samples of its class."""


@dataclass(frozen=True)
class HalfSpace:
    """One side of a hyperplane: the inside (distance above 0) or the outside (below 0)."""

    plane: int
    inside: bool


@dataclass(frozen=True)
class Rule:
    """A conjunction of half-spaces and the class that it implies.

    Attributes:
        conclusion: The class.
        half_spaces: All must hold.
        precision: Share of the class among the training samples for which the rule holds, in [0,
            1].
        coverage: Share of the class's training samples for which the rule holds, in [0, 1].
    """

    conclusion: int
    half_spaces: tuple[HalfSpace, ...]
    precision: float
    coverage: float


@dataclass(frozen=True)
class RuleSet:
    """Rules of all classes; the rules of one class are consecutive and joined by "or".

    Attributes:
        rules: In the order of their classes.
        planes: The hyperplanes that they use.
    """

    rules: tuple[Rule, ...]
    planes: Hyperplanes

    def margins(self, samples_nX: Tensor) -> Tensor:
        """Return the margin of each rule [n, R]: the smallest signed distance from its hyperplanes.

        It is below 0 if the rule does not hold.
        """
        distance_nh = self.planes.distances(samples_nX)
        return torch.stack(
            [_signed(distance_nh, rule.half_spaces).amin(dim=1) for rule in self.rules], dim=1
        )

    def predict(self, samples_nX: Tensor) -> Tensor:
        """Return predicted classes [n].

        If several rules hold, the one with the largest margin decides; if none holds, the nearest
        one.
        """
        return self._conclusions()[self.margins(samples_nX).argmax(dim=1)]

    def matches(self, samples_nX: Tensor) -> Tensor:
        """Return the number of classes with a rule that holds [n]; 2 or more are ambiguous."""
        holds_nR, conclusion_R = self.margins(samples_nX) > 0, self._conclusions()
        return torch.stack(
            [holds_nR[:, conclusion_R == label].any(dim=1) for label in conclusion_R.unique()]
        ).sum(dim=0)

    def describe(self, class_names: Sequence[str] | None = None) -> str:
        """Return one line per class.

        For example `class 3 if h12 > 0 (3 against 5) and h40 < 0 (3 against 8); or if h7 > 0 (3
        against the rest)`.

        Args:
            class_names: Names of the classes; numbers by default.
        """

        def named(label: int) -> str:
            return (
                "the rest"
                if label == REST
                else str(label)
                if class_names is None
                else class_names[label]
            )

        def condition(half_space: HalfSpace) -> str:
            sides = [
                self.planes.inside_h[half_space.plane].item(),
                self.planes.outside_h[half_space.plane].item(),
            ]
            own, other = sides if half_space.inside else reversed(sides)
            sign = ">" if half_space.inside else "<"
            return f"h{half_space.plane} {sign} 0 ({named(int(own))} against {named(int(other))})"

        lines = []
        for label, rules in groupby(self.rules, key=lambda rule: rule.conclusion):
            conjunctions = [" and ".join(map(condition, rule.half_spaces)) for rule in rules]
            lines.append(f"class {named(label)} if {'; or if '.join(conjunctions)}")
        return "\n".join(lines)

    def _conclusions(self) -> Tensor:
        return torch.tensor([rule.conclusion for rule in self.rules])


def learn_rules(
    samples_nX: Tensor,
    class_n: Tensor,
    planes: Hyperplanes,
    max_length: int = 4,
    max_rules: int = 3,
    penalty: float = 1.0,
) -> RuleSet:
    """Learn the rules of each class one after another, by greedy covering.

    A rule gains one for every sample of its class that no earlier rule covers, and loses `penalty`
    for every sample of another class. Half-spaces are added greedily, always the best one. The rule
    is the prefix of that chain with the largest gain; a longer prefix must gain `MIN_GAIN` more. A
    class gets further rules while each gains `MIN_GAIN`. Its first rule is kept in any case, so
    every class with samples and hyperplanes has a rule.

    Args:
        samples_nX: Training samples.
        class_n: Predicted classes of the samples.
        planes: Candidate hyperplanes. The result contains those in use, numbered in order of use.
        max_length: Largest number of half-spaces of a rule.
        max_rules: Largest number of rules of a class.
        penalty: Higher values give more precision and less coverage.

    Raises:
        InputError: if the samples are of fewer than two classes, or there are no hyperplanes.
    """
    classes = present_classes(class_n)
    if not len(planes):
        raise InputError(
            "interpret: no hyperplane was found between the classes (the gradient of the "
            "classifier is zero there, or no class reaches a probability of one half). "
            "Leave rules out of interpret.analyses for this classifier"
        )
    distance_nh = planes.distances(samples_nX)
    rules = [
        rule
        for label in classes
        for rule in _rules_of(label, class_n, planes, distance_nh, max_length, max_rules, penalty)
    ]
    used = list(
        dict.fromkeys(half_space.plane for rule in rules for half_space in rule.half_spaces)
    )
    number = {plane: index for index, plane in enumerate(used)}
    renumbered = [
        replace(
            rule,
            half_spaces=tuple(
                HalfSpace(number[half_space.plane], half_space.inside)
                for half_space in rule.half_spaces
            ),
        )
        for rule in rules
    ]
    return RuleSet(tuple(renumbered), planes.select(torch.tensor(used)))


def _rules_of(
    label: int,
    class_n: Tensor,
    planes: Hyperplanes,
    distance_nh: Tensor,
    max_length: int,
    max_rules: int,
    penalty: float,
) -> list[Rule]:
    half_spaces = [
        HalfSpace(plane, True) for plane in (planes.inside_h == label).nonzero()[:, 0].tolist()
    ]
    half_spaces += [
        HalfSpace(plane, False) for plane in (planes.outside_h == label).nonzero()[:, 0].tolist()
    ]
    if not half_spaces:  # against the rest, if no sample of the class has a probability above 1/2
        return []
    holds_nL = (_signed(distance_nh, half_spaces) > 0).float()
    own_n = (class_n == label).float()
    new_n, min_gain, rules = own_n, MIN_GAIN * own_n.sum().item(), list[Rule]()
    while len(rules) < max_rules:
        gain, chosen = _grow(holds_nL, new_n - penalty * (1 - own_n), max_length, min_gain)
        if rules and gain < min_gain:
            break
        covered_n = holds_nL[:, chosen].amin(dim=1)
        hits = (covered_n * own_n).sum().item()
        precision = hits / max(covered_n.sum().item(), 1)
        rules.append(
            Rule(
                label,
                tuple(half_spaces[index] for index in chosen),
                precision,
                hits / own_n.sum().item(),
            )
        )
        new_n = new_n * (1 - covered_n)
    return rules


def _grow(
    holds_nL: Tensor, worth_n: Tensor, max_length: int, min_gain: float
) -> tuple[float, list[int]]:
    """Return the best prefix of a greedy chain of half-spaces: its gain and their indices."""
    chain, best_gain, best_length = list[int](), -float("inf"), 0
    covered_n = torch.ones_like(worth_n)
    for _ in range(max_length):
        gain_L = (covered_n * worth_n) @ holds_nL
        gain_L[chain] = -torch.inf
        gain, index = (value.item() for value in gain_L.max(dim=0))
        if gain == -float("inf"):
            break
        chain.append(int(index))
        covered_n = covered_n * holds_nL[:, chain[-1]]
        if gain >= best_gain + min_gain:
            best_gain, best_length = gain, len(chain)
    return best_gain, chain[:best_length]


def _signed(distance_nh: Tensor, half_spaces: Sequence[HalfSpace]) -> Tensor:
    """Return signed distances of samples from half-spaces [n, L], below 0 outside of them."""
    sign_L = torch.tensor([1.0 if half_space.inside else -1.0 for half_space in half_spaces])
    return distance_nh[:, [half_space.plane for half_space in half_spaces]] * sign_L
