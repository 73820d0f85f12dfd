"""Rules for a classifier's classes: conjunctions of half-spaces, bounded by hyperplanes tangent to its decision boundary.

After Saad & Wunsch (Neural Networks 20(1), 2007; A11): a class is where all half-spaces of one of its rules hold. The
hyperplanes are those of `boundary`; what is learned here is which few of them make a rule. A half-space of a class is the
inside of a hyperplane of that class, or the outside of one of another class against it.

In the pixels, where Saad & Wunsch work, a tangent is true near its point and a guess further away. In the features the
linear head is itself exact, with fidelity 1, so that rules add no fidelity there; they tell how few of the N - 1
hyperplanes of a class are needed to know it. A hyperplane between two classes does not tell about a third, so that short
rules of such overlap, and the margins decide much (`Fidelity.ambiguous`); hyperplanes against the rest part cleanly.

Shape suffixes: n samples, h hyperplanes, X coordinates of a sample (features or pixels), L half-spaces, R rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor

from netinv_lightning.errors import InputError
from netinv_lightning.interpretability.boundary import REST, Hyperplanes, classes_among

LEAST_GAIN = 0.01
"""What one more half-space or rule must gain, as a share of its class's samples."""
TREE_COMPONENTS = 20
"""Most principal components that the control sees; with more it is no better on the inverted digits."""


@dataclass(frozen=True)
class HalfSpace:
    """One side of a hyperplane: the inside (distance above 0) or the outside (below 0)."""

    plane: int
    inside: bool


@dataclass(frozen=True)
class Rule:
    """The class of a sample for which all half-spaces hold.

    Attributes:
        conclusion: The class.
        half_spaces: All must hold.
        precision: Share of the class among the training samples for which the rule holds, in [0, 1].
        coverage: Share of the class's training samples for which the rule holds, in [0, 1].
    """

    conclusion: int
    half_spaces: tuple[HalfSpace, ...]
    precision: float
    coverage: float


@dataclass(frozen=True)
class RuleSet:
    """Rules of all classes; those of one class, one after another, are joined by "or".

    Attributes:
        rules: In the order of their classes.
        planes: The hyperplanes that they use.
    """

    rules: tuple[Rule, ...]
    planes: Hyperplanes

    def margins(self, samples_nX: Tensor) -> Tensor:
        """By how much each rule holds [n, R]: a sample's least distance from its hyperplanes, below 0 where it does not hold."""
        distance_nh = self.planes.distances(samples_nX)
        return torch.stack(
            [_signed(distance_nh, rule.half_spaces).amin(dim=1) for rule in self.rules], dim=1
        )

    def predict(self, samples_nX: Tensor) -> Tensor:
        """Classes [n]: of several rules that hold, the one with the widest margin decides; where none does, the one nearest to it."""
        return self._conclusions()[self.margins(samples_nX).argmax(dim=1)]

    def matches(self, samples_nX: Tensor) -> Tensor:
        """For how many classes a rule holds [n]: 0 is uncovered; from 2 up the margins had to decide."""
        holds_nR, conclusion_R = self.margins(samples_nX) > 0, self._conclusions()
        return torch.stack(
            [holds_nR[:, conclusion_R == label].any(dim=1) for label in conclusion_R.unique()]
        ).sum(dim=0)

    def describe(self, class_names: Sequence[str] | None = None) -> str:
        """A line for each class: `class 3 if h12 > 0 (3 against 5) and h40 < 0 (3 against 8); or if h7 > 0 (3 against the rest)`.

        Args:
            class_names: What classes are called; their numbers by default.
        """

        def named(label: int) -> str:
            return (
                "the rest"
                if label == REST
                else str(label)
                if class_names is None
                else class_names[label]
            )

        def told(half_space: HalfSpace) -> str:
            sides = [
                self.planes.inside_h[half_space.plane].item(),
                self.planes.outside_h[half_space.plane].item(),
            ]
            own, other = sides if half_space.inside else reversed(sides)
            return f"h{half_space.plane} {'>' if half_space.inside else '<'} 0 ({named(int(own))} against {named(int(other))})"

        lines = []
        for label, rules in groupby(self.rules, key=lambda rule: rule.conclusion):
            conjunctions = [" and ".join(map(told, rule.half_spaces)) for rule in rules]
            lines.append(f"class {named(label)} if {'; or if '.join(conjunctions)}")
        return "\n".join(lines)

    def _conclusions(self) -> Tensor:
        return torch.tensor([rule.conclusion for rule in self.rules])


@dataclass(frozen=True)
class Fidelity:
    """Agreement with the classifier on one set of samples that nothing was fitted on; all shares are in [0, 1].

    Attributes:
        rules: Share of the samples that the rules give the classifier's class.
        classes: The same among the samples of each class of the classifier, by class.
        uncovered: Share for which no rule holds; the nearest decides.
        ambiguous: Share for which rules of several classes hold; the margins decide.
        tree: Agreement of the control, a decision tree.
        majority: Agreement of always naming the class that most training samples have.
    """

    rules: float
    classes: dict[int, float]
    uncovered: float
    ambiguous: float
    tree: float
    majority: float


@dataclass(frozen=True)
class RuleMeasures:
    """How many rules there are, how long they are, and how far they can be trusted.

    Attributes:
        rules: Number of rules.
        half_spaces: Number of half-spaces in all of them.
        mean_length, greatest_length: Half-spaces a rule.
        mean_precision: Of the rules alone, without the margins, on the training samples.
        tree_leaves: Leaves of the control, at most `half_spaces`.
        tree_depth: Its mean number of tests for a training sample.
        inverted: On held-out inverted samples.
        real: On real samples; None where there are none.
    """

    rules: int
    half_spaces: int
    mean_length: float
    greatest_length: int
    mean_precision: float
    tree_leaves: int
    tree_depth: float
    inverted: Fidelity
    real: Fidelity | None


def learn_rules(
    samples_nX: Tensor,
    class_n: Tensor,
    planes: Hyperplanes,
    max_length: int = 4,
    max_rules: int = 3,
    price: float = 1.0,
) -> RuleSet:
    """Learns the rules of each class, one after another, by greedy covering.

    A rule gains one for every sample of its class that no earlier rule covers and loses `price` for every sample of another
    class. Half-spaces are added one by one, always the best, and the rule is the beginning of that chain that gains most, a
    longer one only for `LEAST_GAIN` more. A class has further rules while each gains `LEAST_GAIN`; its first one stands however
    poor, so that no class that has samples and hyperplanes goes without.

    Args:
        samples_nX: Training samples.
        class_n: The classifier's own classes of them.
        planes: The pool of hyperplanes; the rules' own are those of it that are used, numbered in the order of their use.
        max_length: Most half-spaces of a rule.
        max_rules: Most rules of a class.
        price: Trades precision (higher) for coverage (lower).

    Raises:
        InputError: if the samples are of fewer than two classes, or there are no hyperplanes.
    """
    classes = classes_among(class_n)
    if not len(planes):
        raise InputError(
            "interpret: no hyperplane was found between the classes (the classifier's gradient is zero there, or against the rest "
            "no sample is half certain); leave the rules out for this classifier"
        )
    distance_nh = planes.distances(samples_nX)
    rules = [
        rule
        for label in classes
        for rule in _rules_of(label, class_n, planes, distance_nh, max_length, max_rules, price)
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
    return RuleSet(tuple(renumbered), planes.take(torch.tensor(used)))


def _rules_of(
    label: int,
    class_n: Tensor,
    planes: Hyperplanes,
    distance_nh: Tensor,
    max_length: int,
    max_rules: int,
    price: float,
) -> list[Rule]:
    half_spaces = [
        HalfSpace(plane, True) for plane in (planes.inside_h == label).nonzero()[:, 0].tolist()
    ]
    half_spaces += [
        HalfSpace(plane, False) for plane in (planes.outside_h == label).nonzero()[:, 0].tolist()
    ]
    if not half_spaces:  # against the rest, where no sample of the class is half certain
        return []
    holds_nL = (_signed(distance_nh, half_spaces) > 0).float()
    own_n = (class_n == label).float()
    new_n, least, rules = own_n, LEAST_GAIN * own_n.sum().item(), list[Rule]()
    while len(rules) < max_rules:
        gain, chosen = _grow(holds_nL, new_n - price * (1 - own_n), max_length, least)
        if rules and gain < least:
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
    holds_nL: Tensor, worth_n: Tensor, max_length: int, least: float
) -> tuple[float, list[int]]:
    """The best beginning of a greedy chain of half-spaces: the worth of the samples it covers, and their indices."""
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
        if gain >= best_gain + least:
            best_gain, best_length = gain, len(chain)
    return best_gain, chain[:best_length]


def _signed(distance_nh: Tensor, half_spaces: Sequence[HalfSpace]) -> Tensor:
    """How deep samples lie in half-spaces [n, L], below 0 outside of them."""
    sign_L = torch.tensor([1.0 if half_space.inside else -1.0 for half_space in half_spaces])
    return distance_nh[:, [half_space.plane for half_space in half_spaces]] * sign_L


def measure_rules(
    rules: RuleSet,
    training: tuple[Tensor, Tensor],
    inverted: tuple[Tensor, Tensor],
    real: tuple[Tensor, Tensor] | None = None,
    seed: int = 0,
) -> RuleMeasures:
    """Measures rules beside two controls that are fitted on the same training samples.

    A decision tree on principal components asks as rules do on which side of a hyperplane a sample lies. It may have as many
    leaves as the rules have half-spaces in all, and so as many hyperplanes less one: both cost the reader the same.

    Args:
        rules: The rules.
        training: Samples [n, X] that they were learned from, with the classifier's own classes [n].
        inverted: The same of inverted samples that had no part in it.
        real: The same of real samples.
        seed: Of the tree and the components.
    """
    samples_nX, class_n = training
    lengths = [len(rule.half_spaces) for rule in rules.rules]
    tree = make_pipeline(
        PCA(min(TREE_COMPONENTS, *samples_nX.shape), random_state=seed),
        DecisionTreeClassifier(max_leaf_nodes=max(2, sum(lengths)), random_state=seed),
    ).fit(samples_nX.numpy(), class_n.numpy())
    majority = int(class_n.mode().values)
    return RuleMeasures(
        rules=len(lengths),
        half_spaces=sum(lengths),
        mean_length=sum(lengths) / len(lengths),
        greatest_length=max(lengths),
        mean_precision=sum(rule.precision for rule in rules.rules) / len(lengths),
        tree_leaves=int(tree[-1].get_n_leaves()),
        tree_depth=float(
            tree[-1].decision_path(tree[0].transform(samples_nX.numpy())).sum(axis=1).mean() - 1
        ),
        inverted=_fidelity(rules, tree, majority, *inverted),
        real=None if real is None else _fidelity(rules, tree, majority, *real),
    )


def _fidelity(
    rules: RuleSet, tree: Pipeline, majority: int, samples_nX: Tensor, class_n: Tensor
) -> Fidelity:
    agrees_n, matches_n = rules.predict(samples_nX) == class_n, rules.matches(samples_nX)
    return Fidelity(
        rules=agrees_n.float().mean().item(),
        classes={
            label: agrees_n[class_n == label].float().mean().item()
            for label in class_n.unique().tolist()
        },
        uncovered=(matches_n == 0).float().mean().item(),
        ambiguous=(matches_n > 1).float().mean().item(),
        tree=(torch.from_numpy(tree.predict(samples_nX.numpy())) == class_n).float().mean().item(),
        majority=(class_n == majority).float().mean().item(),
    )
