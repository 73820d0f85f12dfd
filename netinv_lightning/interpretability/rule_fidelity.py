"""Fidelity of rules (their agreement with the classifier), compared with two baselines.

Shape suffixes: n samples, X coordinates of a sample (features or pixels).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor

from netinv_lightning.interpretability.rules import RuleSet

TREE_COMPONENTS = 20
"""Largest number of principal components for the decision tree; on inverted digits, more components
do not help.
"""


@dataclass(frozen=True)
class Fidelity:
    """Agreement with the classifier on one set of held-out samples; all shares are in [0, 1].

    Attributes:
        rules: Share of the samples for which the rules give the class that the classifier predicts.
        classes: The same for the samples of each predicted class, by class.
        uncovered: Share of the samples for which no rule holds; the nearest rule decides.
        ambiguous: Share for which rules of several classes hold; the margins decide.
        tree: Agreement of a baseline, a decision tree.
        majority: Agreement of always predicting the most frequent class of the training samples.
    """

    rules: float
    classes: dict[int, float]
    uncovered: float
    ambiguous: float
    tree: float
    majority: float


@dataclass(frozen=True)
class RuleMeasures:
    """Number, length and fidelity of rules.

    Attributes:
        rules: Number of rules.
        half_spaces: Number of half-spaces of all rules.
        mean_length, greatest_length: Half-spaces per rule.
        mean_precision: Precision of the rules on the training samples, without the margins.
        tree_leaves: Leaves of the decision tree, at most `half_spaces`.
        tree_depth: Its mean number of tests for a training sample.
        inverted: Fidelity on held-out inverted samples.
        real: Fidelity on real samples; None without any.
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


def measure_rules(
    rules: RuleSet,
    training: tuple[Tensor, Tensor],
    inverted: tuple[Tensor, Tensor],
    real: tuple[Tensor, Tensor] | None = None,
    seed: int = 0,
) -> RuleMeasures:
    """Measure rules, and two baselines that are fitted on the same training samples.

    A decision tree on principal components also tests on which side of a hyperplane a sample lies.
    It may have as many leaves as the rules have half-spaces, so about as many hyperplanes.

    Args:
        rules: The rules.
        training: Their training samples [n, X] and predicted classes [n].
        inverted: Held-out inverted samples and their predicted classes.
        real: Real samples and their predicted classes.
        seed: Seed of the tree and the components.
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
